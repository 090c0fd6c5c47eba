package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

type spfLog struct {
	Node         dmsc.NodeID        `json:"node"`
	Computations []node.Computation `json:"computations"` // the newest first
}

func getSPFLogCommand() *cobra.Command {
	var f nodeFlags
	var limit uint
	cmd := &cobra.Command{
		Use: "spf-log", Args: cobra.NoArgs,
		Short: "Why each node computed its routes, what changed by it, and how long it took",
		Long: "The last computations of each node, the newest first: when, how much of the shortest paths (full, incremental, none\n" +
			"for prefixes), how many nodes and names moved, how many further changes it answered, how long it had to wait and took\n" +
			"(wall clock), and what had changed.\n\n" + nodeHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, &f, func(ctx context.Context, a asked) (spfLog, error) {
				out := spfLog{Node: a.about.Node}
				return out, a.Read(ctx, "/api/v1/spf-log", limited(limit), &out.Computations)
			}, printSPFLog)
		},
	}
	f.add(cmd)
	cmd.Flags().UintVar(&limit, "limit", 20, "the last so many of each node; 0 for all that it keeps")
	return cmd
}

func printSPFLog(w io.Writer, nodes []spfLog) error {
	var rows [][]string
	for _, n := range nodes {
		for _, c := range n.Computations {
			publish := ""
			switch {
			case c.Failed:
				publish = "failed"
			case c.Version != "":
				publish = span(c.PublishMicros)
			}
			rows = append(rows, []string{
				string(n.Node), age(c.AgeSec), c.Kind, fmt.Sprint(c.Nodes), fmt.Sprint(c.Entries), fmt.Sprint(c.Coalesced),
				span(c.WaitedMicros), span(c.ComputeMicros), span(c.TranslateMicros), publish, because(c),
			})
		}
	}
	return columns(w, "NODE  AGO  KIND  NODES  NAMES  COALESCED  WAITED  SPF+RIB  TRANSLATE  PUBLISH  BECAUSE", rows)
}

// because tells the causes of a computation on one line.
func because(c node.Computation) string {
	var out []string
	for _, cause := range c.Causes {
		what := cause.Record
		if cause.Link != "" {
			what = "adjacency " + cause.Link
		}
		out = append(out, what+": "+brief(cause.What, 4))
	}
	if c.CausesOmitted > 0 {
		out = append(out, fmt.Sprintf("%d more records", c.CausesOmitted))
	}
	if c.Kind == "first" {
		out = append(out, "the node has started")
	}
	return strings.Join(out, "; ")
}
