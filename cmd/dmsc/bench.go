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
		Use:   "bench convergence|sync",
		Short: "Measure real processes on this machine",
		Args:  oneOf,
		RunE: func(*cobra.Command, []string) error {
			return exit(exitUsage, errors.New("say what to measure: convergence or sync"))
		},
	}
	cmd.AddCommand(benchConvergenceCommand(), benchSyncCommand())
	return cmd
}

func benchConvergenceCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "convergence",
		Short: "Break a network of eight real nodes again and again, and count until the last Envoy has the new FIB",
		Long: "Start eight agents with their Envoys on the loopback, kill a node, cut and silence links, heal them again,\n" +
			"and count from the fault to each step of the walk of a datum. Exit code 1 when a fault was never answered;\n" +
			"a target that is missed is marked and no failure.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, func() (*bench.Result, error) { return bench.Convergence(cmd.Context(), f.Options) })
		},
	}
	f.add(cmd, 10, "how many networks are started, in each of which every fault is made once")
	return cmd
}

func benchSyncCommand() *cobra.Command {
	var f benchFlags
	var o bench.SyncOptions
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Give a fresh node a large database, and count until it and its Envoy have all of it",
		Long: "Start an agent beside a neighbour that holds the database of a grid of nodes, and count from the control\n" +
			"stream to the last record, the last route and Envoy's ACK, with the memory and CPU time of the agent: first\n" +
			"with a stand-in for its Envoy, then with a real one.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Nodes < 1 || o.Nodes > 99_999 || o.PrefixesPerNode < 0 {
				return exit(exitUsage, errors.New("--nodes is from 1 to 99999, and --prefixes-per-node not negative"))
			}
			return f.run(cmd, func() (*bench.Result, error) { o.Options = f.Options; return bench.Sync(cmd.Context(), o) })
		},
	}
	f.add(cmd, 1, "how often")
	cmd.Flags().IntVar(&o.Nodes, "nodes", 10_000, "nodes in the database")
	cmd.Flags().IntVar(&o.PrefixesPerNode, "prefixes-per-node", 10, "prefixes of each")
	return cmd
}

// benchFlags are what all benchmarks take.
type benchFlags struct {
	bench.Options
	output string
}

func (f *benchFlags) add(cmd *cobra.Command, runs int, what string) {
	cmd.Flags().IntVar(&f.Runs, "runs", runs, what)
	cmd.Flags().StringVar(&f.Keep, "keep", "", "folder to keep configurations, states and logs in")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
}

// run prints what was measured, also when the benchmark has failed half-way.
func (f *benchFlags) run(cmd *cobra.Command, measure func() (*bench.Result, error)) error {
	if f.output != "text" && f.output != "json" {
		return exit(exitUsage, fmt.Errorf("output %q is not one of text, json", f.output))
	}
	if f.Runs < 1 {
		return exit(exitUsage, errors.New("--runs is at least 1"))
	}
	var err error
	if f.Envoy, err = envoybin.Find(cmd.Context()); err != nil {
		return exit(exitUsage, err)
	}
	if f.Binary, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	f.Progress = cmd.ErrOrStderr()
	r, failed := measure()
	if f.output == "json" {
		err = r.PrintJSON(cmd.OutOrStdout())
	} else {
		err = r.Print(cmd.OutOrStdout())
	}
	return exit(exitNo, errors.Join(failed, err))
}
