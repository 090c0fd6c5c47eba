package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc/internal/sim"
)

func simCommand() *cobra.Command {
	var file, output string
	var opts sim.Options
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Let faults happen to a network in virtual time and check that its routing holds",
		Long: "Run the link-state engine of every node of a topology in virtual time through random failures of links and\n" +
			"nodes, partitions, restarts, changes, and loss; after every few events wait for rest and check that all nodes\n" +
			"agree, that nothing loops or is lost, and that every next hop is right. Requests are walked meanwhile.\n" +
			"The same flags print the same bytes. Exits with 1 when an invariant broke, and prints the shortest scene that\n" +
			"breaks it. Without --topology it is the draft's Figure 2.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return exit(exitUsage, fmt.Errorf("output %q is not one of text, json", output))
			}
			var err error
			if opts.Topology, err = topologyOf(cmd, file); err != nil {
				return err
			}
			if err := opts.Validate(); err != nil {
				return exit(exitUsage, err)
			}
			return simulate(cmd, opts, output, file)
		},
	}
	cmd.Flags().StringVarP(&file, "topology", "f", "", "topology file, - for stdin (default: Figure 2)")
	cmd.Flags().Uint64Var(&opts.Seed, "seed", 1, "everything random follows from it")
	cmd.Flags().IntVar(&opts.Events, "events", 100, "number of faults and changes")
	cmd.Flags().Float64Var(&opts.Loss, "loss", 0, "chance of a control message to be lost, and as much to come twice or late; 0 to 0.5")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func simulate(cmd *cobra.Command, opts sim.Options, output, file string) error {
	out := cmd.OutOrStdout()
	replay := fmt.Sprintf("dmsc sim --seed %d --events %d --loss %g", opts.Seed, opts.Events, opts.Loss)
	if file != "" {
		replay += " --topology " + file
	}
	if output == "text" {
		sim.WriteHead(out, opts)
		opts.Progress = func(p sim.Phase) { sim.WritePhase(out, p) }
	}
	if nodes := len(opts.Topology.Nodes); nodes >= 100 {
		fmt.Fprintf(cmd.ErrOrStderr(), "cold start of %d nodes; this takes a while ...\n", nodes)
	}
	began := time.Now()
	report, err := sim.Run(cmd.Context(), opts)
	if errors.Is(err, context.Canceled) {
		return exit(exitNo, fmt.Errorf("interrupted after %s; what is printed held", time.Since(began).Round(time.Millisecond)))
	}
	if err != nil {
		return err
	}
	// Not to stdout, whose bytes follow from the flags.
	fmt.Fprintf(cmd.ErrOrStderr(), "took %s\n", time.Since(began).Round(time.Millisecond))
	if output == "json" {
		err = writeReport(out, report, replay)
	} else {
		err = sim.WriteSummary(out, report, replay)
	}
	if err == nil && report.Failure != nil {
		err = exit(exitNo, fmt.Errorf("an invariant broke: %s", report.Failure.Rule))
	}
	return err
}

func writeReport(w io.Writer, r *sim.Report, replay string) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		*sim.Report
		Replay string `json:"replay"`
	}{r, replay})
}
