package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc/internal/bench"
	"github.com/dmsc-mesh/dmsc/internal/envoybin"
)

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure real processes on this machine",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(benchConvergenceCommand())
	return cmd
}

func benchConvergenceCommand() *cobra.Command {
	var output string
	var o bench.Options
	cmd := &cobra.Command{
		Use:   "convergence",
		Short: "Break a network of eight real nodes again and again, and count until the last Envoy has the new FIB",
		Long: "Start eight agents with their Envoys on the loopback, kill a node, cut and silence links, heal them again,\n" +
			"and count from the fault to each step of the walk of a datum. Exit code 1 when a fault was never answered;\n" +
			"a target that is missed is marked and no failure.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return exit(exitUsage, fmt.Errorf("output %q is not one of text, json", output))
			}
			if o.Runs < 1 {
				return exit(exitUsage, errors.New("--runs is at least 1"))
			}
			var err error
			if o.Envoy, err = envoybin.Find(cmd.Context()); err != nil {
				return exit(exitUsage, err)
			}
			if o.Binary, err = os.Executable(); err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			o.Progress = cmd.ErrOrStderr()
			r, failed := bench.Convergence(cmd.Context(), o)
			if output == "json" {
				err = r.PrintJSON(cmd.OutOrStdout())
			} else {
				err = r.Print(cmd.OutOrStdout())
			}
			return exit(exitNo, errors.Join(failed, err))
		},
	}
	cmd.Flags().IntVar(&o.Runs, "runs", 10, "how many networks are started, in each of which every fault is made once")
	cmd.Flags().StringVar(&o.Keep, "keep", "", "folder to keep configurations, states and logs in")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}
