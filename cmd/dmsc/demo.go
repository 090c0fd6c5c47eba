package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc/internal/demo"
	"github.com/dmsc-mesh/dmsc/internal/envoybin"
	"github.com/dmsc-mesh/dmsc/internal/regular"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/spa"
)

func demoCommand() *cobra.Command {
	var file, grants, keep, output string
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a whole network on this machine, on real Envoys, and tell its story",
		Long: "Start SPA, SCSC, and for each node of a topology an agent and an Envoy, on free loopback ports; announce,\n" +
			"forward, kill, slow and heal, and say what was measured. Without --topology it is the draft's Figure 2.\n" +
			"Stays up until Ctrl-C; --once ends by itself, with 1 when a line of the story did not hold.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts := demo.Options{Topology: topology.Figure2(), Once: once, Keep: keep, Out: cmd.OutOrStdout()}
			switch output {
			case "json":
				opts.JSON = true
			case "text":
			default:
				return exit(exitUsage, fmt.Errorf("output %q is not one of text, json", output))
			}
			var err error
			if file != "" {
				if opts.Topology, err = topology.Load(file); err != nil {
					return exit(exitUsage, err)
				}
			}
			if n := len(opts.Topology.Nodes); n > demo.MaxNodes {
				return exit(exitUsage, fmt.Errorf("topology %s has %d nodes; the demo runs up to %d on one machine", opts.Topology.Name, n, demo.MaxNodes))
			}
			if grants != "" {
				if _, err := spa.LoadGrants(grants); err != nil {
					return exit(exitUsage, err)
				}
				if opts.Grants, err = regular.ReadFile(grants); err != nil {
					return exit(exitUsage, err)
				}
			}
			if opts.Envoy, err = envoybin.Find(cmd.Context()); err != nil {
				return exit(exitUsage, err)
			}
			if opts.Binary, err = os.Executable(); err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			return exit(exitNo, demo.Run(cmd.Context(), opts))
		},
	}
	cmd.Flags().StringVarP(&file, "topology", "f", "", "topology file (default: Figure 2)")
	cmd.Flags().StringVar(&grants, "grants", "", "PrefixGrants file (default: each pod may announce what the topology gives it)")
	cmd.Flags().BoolVar(&once, "once", false, "assert each line and exit with 0 or 1")
	cmd.Flags().StringVar(&keep, "keep", "", "folder to keep configurations, states and logs in")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json (one object per line)")
	return cmd
}
