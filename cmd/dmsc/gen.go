package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc/internal/topology"
)

func genCommand() *cobra.Command {
	var plan topology.Plan
	cmd := &cobra.Command{
		Use:   "gen " + strings.Join(topology.Shapes, "|"),
		Short: "Write the topology file of a network of any size",
		Long: "Write a topology file for dmsc sim, spf, translate and, as long as it is small, demo to stdout.\n" +
			"The same flags write the same bytes.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(topology.Shapes, args[0]) {
				return fmt.Errorf("say one shape: %s", strings.Join(topology.Shapes, ", "))
			}
			return nil
		},
		ValidArgs: topology.Shapes,
		RunE: func(cmd *cobra.Command, args []string) error {
			plan.Shape = args[0]
			text, err := topology.Generate(plan)
			if err != nil {
				return exit(exitUsage, err)
			}
			if size := plan.Size(); cmd.Flags().Changed("nodes") && size != plan.Nodes {
				fmt.Fprintf(cmd.ErrOrStderr(), "a fattree has 5k²/4 nodes with an even k: this one has %d, not %d\n", size, plan.Nodes)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.Flags().IntVar(&plan.Nodes, "nodes", 20, "number of nodes; a fattree takes the nearest it can have")
	cmd.Flags().IntVar(&plan.K, "k", 0, "ports per switch of a fattree, even (default: by --nodes)")
	cmd.Flags().IntVar(&plan.PrefixesPerNode, "prefixes-per-node", 1, "prefixes at each SG")
	cmd.Flags().Uint64Var(&plan.Seed, "seed", 1, "of the links of a random network")
	return cmd
}
