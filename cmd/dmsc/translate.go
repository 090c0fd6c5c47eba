package main

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

func translateCommand() *cobra.Command {
	var file, node, output string
	cmd := &cobra.Command{
		Use:   "translate --topology FILE --node NODE",
		Short: "Print a node's complete static Envoy configuration, offline",
		Long: "Print the configuration with which a node's Envoy forwards without an agent: plain text between nodes,\n" +
			"endpoints and routes inline. Run all nodes' outputs and the network forwards:\n\n" +
			"  dmsc translate --topology net.yaml --node sg-1 -o yaml > sg-1.yaml\n" +
			"  envoy -c sg-1.yaml --concurrency 1",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "yaml" {
				return exit(exitUsage, fmt.Errorf("output %q is not yaml, the only form Envoy reads from here", output))
			}
			t, view, err := viewOf(cmd, file, node)
			if err != nil {
				return err
			}
			state := offlineState(t, view, rib.Compute(view))
			r, err := translator.Translate(state)
			if err == nil {
				err = xds.SetOf(r).Validate()
			}
			if err != nil {
				return exit(exitUsage, fmt.Errorf("translate %s: %w", node, err))
			}
			boot, err := translator.Static(state.Node, state.Addrs, r)
			if err != nil {
				return fmt.Errorf("translate %s: %w", node, err)
			}
			b, err := translator.YAML(boot)
			if err != nil {
				return fmt.Errorf("translate %s: %w", node, err)
			}
			_, err = cmd.OutOrStdout().Write(b)
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "topology", "f", "", "topology file, - for stdin (default: Figure 2)")
	cmd.Flags().StringVar(&node, "node", "", "node to translate for")
	cmd.Flags().StringVarP(&output, "output", "o", "yaml", "yaml")
	_ = cmd.MarkFlagRequired("node")
	return cmd
}

// offlineState is the translator's input for a node of a converged network.
func offlineState(t *topology.Topology, view *linkstate.View, routes *rib.RIB) translator.State {
	n, _ := t.Node(view.Node)
	s := translator.State{
		Node: n.ID, Role: n.Role, RIB: routes,
		Addrs: translator.Addrs{Ingress: n.Ingress, Fabric: n.Fabric, Probe: n.Probe, Admin: n.Admin},
	}
	for _, a := range view.Adjacencies {
		nb := translator.Neighbour{Data: a.Data, Class: a.Class, Up: a.Advertised()}
		nb.LinkKey = a.LinkKey
		s.Neighbours = append(s.Neighbours, nb)
	}
	for _, pod := range t.Pods {
		if pod.Gateway != n.ID {
			continue
		}
		for _, v := range pod.Services {
			s.Services = append(s.Services, translator.Service{
				Prefix: v.Prefix, Address: net.JoinHostPort(v.Address, strconv.Itoa(int(v.Port))),
				Protocol: v.Protocol, HealthPath: v.HealthPath, Weight: v.Weight,
			})
		}
	}
	slices.SortFunc(s.Services, func(a, b translator.Service) int {
		return cmp.Or(a.Prefix.Compare(b.Prefix), cmp.Compare(a.Address, b.Address))
	})
	return s
}

func bootstrapCommand() *cobra.Command {
	var file, node, xds, admin string
	cmd := &cobra.Command{
		Use:   "bootstrap --config FILE | --node NODE",
		Short: "Print the bootstrap of an Envoy that takes everything else from its agent",
		Long: "Print what the Envoy beside an agent starts with. --config is the agent's own file, so that both name the\n" +
			"same sockets; with --node alone they are where an agent without a state_dir has them:\n\n" +
			"  dmsc bootstrap --config sg-1.yaml > envoy.yaml\n" +
			"  envoy -c envoy.yaml",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := map[string]any{}
			if node != "" {
				flags["node"] = node
			}
			if file == "" {
				flags["role"] = dmsc.RoleSG.String() // of no account here, but a node has one
			}
			if xds != "" {
				flags["listen.xds"] = xds
			}
			if admin != "" {
				flags["envoy.admin"] = admin
			}
			cfg, err := config.LoadNode(file, flags)
			if err != nil {
				return exit(exitUsage, err)
			}
			boot, err := translator.Bootstrap(cfg.Node, cfg.Envoy.Admin, cfg.Listen.XDS)
			if err != nil {
				return exit(exitUsage, err)
			}
			translator.SetMaxHeap(boot, cfg.Envoy.MaxHeap)
			translator.SetSource(boot, translator.Source(cfg.Envoy.XDS))
			b, err := translator.YAML(boot)
			if err != nil {
				return fmt.Errorf("bootstrap of %s: %w", cfg.Node, err)
			}
			_, err = cmd.OutOrStdout().Write(b)
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file of the agent")
	cmd.Flags().StringVar(&node, "node", "", "node id of the agent")
	cmd.Flags().StringVar(&xds, "xds", "", "where the agent serves xDS: unix:///path or host:port (default: as the configuration says)")
	cmd.Flags().StringVar(&admin, "admin", "", "Envoy's admin listener: unix:///path or ip:port (default: as the configuration says)")
	cmd.MarkFlagsOneRequired("config", "node")
	return cmd
}
