package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// spfReport is the output of `dmsc spf`: what the root's RIB says.
type spfReport struct {
	Root      dmsc.NodeID `json:"root" yaml:"root"`
	Nodes     []spfNode   `json:"nodes" yaml:"nodes"`
	Prefixes  []spfName   `json:"prefixes" yaml:"prefixes"`
	Functions []spfName   `json:"functions" yaml:"functions"`
}

type spfNode struct {
	Node     dmsc.NodeID `json:"node" yaml:"node"`
	Distance dmsc.Metric `json:"distance" yaml:"distance"`
	NextHops []string    `json:"next_hops" yaml:"next_hops"`
}

type spfName struct {
	Prefix   string        `json:"prefix" yaml:"prefix"`
	Distance dmsc.Metric   `json:"distance" yaml:"distance"`
	Egress   []dmsc.NodeID `json:"egress" yaml:"egress"`
	NextHops []string      `json:"next_hops" yaml:"next_hops"`
	Backup   []string      `json:"backup" yaml:"backup"`
}

func spfCommand() *cobra.Command {
	var file, root, output string
	cmd := &cobra.Command{
		Use:   "spf --topology FILE --root NODE",
		Short: "Compute a node's routes from a topology file, offline",
		Long: "Compute what a node of a converged network would route, by the same functions as a running node.\n" +
			"A distance of 2^24 and more leads through a last-resort node. Without --topology it is the draft's Figure 2.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, view, err := viewOf(cmd, file, root)
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), output, report(rib.Compute(view)), printSPF)
		},
	}
	cmd.Flags().StringVarP(&file, "topology", "f", "", "topology file, - for stdin (default: Figure 2)")
	cmd.Flags().StringVar(&root, "root", "", "node to compute for")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	_ = cmd.MarkFlagRequired("root")
	return cmd
}

// topologyOf reads a topology file, stdin for "-", Figure 2 for "".
func topologyOf(cmd *cobra.Command, file string) (t *topology.Topology, err error) {
	switch file {
	case "":
		return topology.Figure2(), nil
	case "-":
		var text []byte
		if text, err = io.ReadAll(cmd.InOrStdin()); err == nil {
			t, err = topology.Parse("stdin", text)
		}
	default:
		t, err = topology.Load(file)
	}
	return t, exit(exitUsage, err)
}

// viewOf reads a topology and returns what one of its nodes would know.
func viewOf(cmd *cobra.Command, file, node string) (*topology.Topology, *linkstate.View, error) {
	t, err := topologyOf(cmd, file)
	if err != nil {
		return nil, nil, err
	}
	view := t.View(dmsc.NodeID(node))
	if view == nil {
		return nil, nil, exit(exitUsage, fmt.Errorf("node %q is not in topology %s", node, t.Name))
	}
	return t, view, nil
}

func report(r *rib.RIB) spfReport {
	out := spfReport{Root: r.Node, Nodes: []spfNode{}, Prefixes: []spfName{}, Functions: []spfName{}}
	for e := range r.All() {
		name := spfName{Prefix: e.Prefix.String(), Distance: e.Distance, Egress: e.Egress, NextHops: []string{}, Backup: []string{}}
		if !e.Local {
			name.NextHops, name.Backup = hops(e.Group.Primaries), hops(e.Group.Backup)
		}
		switch e.Kind {
		case rib.Announced:
			out.Prefixes = append(out.Prefixes, name)
		case rib.Function:
			out.Functions = append(out.Functions, name)
		case rib.Node:
			out.Nodes = append(out.Nodes, spfNode{e.Egress[0], e.Distance, name.NextHops})
		}
	}
	return out
}

// hops names next hops: the neighbour, with "#link" for a link other than 0.
func hops(in []rib.NextHop) []string {
	out := make([]string, len(in))
	for i, h := range in {
		out[i] = h.LinkKey.String()
	}
	return out
}

func printSPF(w io.Writer, r spfReport) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "NODE\tDISTANCE\tNEXT HOPS\n")
	for _, n := range r.Nodes {
		fmt.Fprintf(tw, "%s\t%d\t%s\n", n.Node, n.Distance, comma(n.NextHops))
	}
	fmt.Fprintf(tw, "\nPREFIX\tDISTANCE\tEGRESS\tNEXT HOPS\tBACKUP\n")
	for _, names := range [][]spfName{r.Prefixes, r.Functions} {
		for _, p := range names {
			fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\n", p.Prefix, p.Distance, comma(p.Egress), comma(p.NextHops), comma(p.Backup))
		}
	}
	return tw.Flush()
}

// comma prints a list for people, "-" for an empty one.
func comma[T ~string](in []T) string {
	if len(in) == 0 {
		return "-"
	}
	out := string(in[0])
	for _, s := range in[1:] {
		out += "," + string(s)
	}
	return out
}

// write prints v as JSON or YAML, or by table for people.
func write[T any](w io.Writer, format string, v T, table func(io.Writer, T) error) error {
	switch format {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "yaml":
		b, err := json.Marshal(v)
		if err == nil {
			b, err = yaml.JSONToYAML(b)
		}
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	case "table", "":
		return table(w, v)
	}
	return exit(exitUsage, fmt.Errorf("output %q is not one of table, json, yaml", format))
}
