package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/topology"
)

type whatifFlags struct {
	networkFlags
	links, failed, metrics, from []string
	limit                        uint
}

func whatifCommand() *cobra.Command {
	f := new(whatifFlags)
	cmd := &cobra.Command{
		Use:   "whatif --server NODE | --topology FILE --fail-link A:B [NAME …]",
		Short: "Say what a failure or another metric would do to a network",
		Long: "Compare a converged network with what becomes of it: which names each gateway would reach by another way,\n" +
			"which it would lose, and what happens to requests in between, while only the ends of a dead link know of it\n" +
			"and each Envoy does with its alternates what it can. A link is A:B, or A:B#ID beside others of the two nodes.\n\n" +
			"  dmsc whatif --fail-link sr-1:sr-3 --fail-node sr-2\n" +
			"  dmsc whatif -f net.yaml --set-metric sr-1:sr-2=100 --from sg-1 b/4\n\n" +
			"--server, or a fleet in " + nodesEnv + ", takes the network of the database of a running node, the first that answers:\n\n" +
			"  dmsc whatif --server http://10.0.0.1:17805 --fail-node sr-2\n\n" +
			"Without NAME it is all names. The exit code is 0 if nothing becomes unreachable, 1 if something does.",
		RunE: func(cmd *cobra.Command, names []string) error {
			var t *topology.Topology
			var err error
			if f.live() {
				t, err = liveTopology(cmd, &f.nodeFlags)
			} else {
				t, err = topologyOf(cmd, f.topology)
			}
			if err != nil {
				return err
			}
			c, err := f.change(t)
			if err != nil {
				return exit(exitUsage, err)
			}
			report, err := whatif(c, f.from, names, int(f.limit))
			if err != nil {
				return exit(exitUsage, err)
			}
			if err := write(cmd.OutOrStdout(), f.output, report, printWhatif); err != nil {
				return err
			}
			if report.Lost > 0 {
				return exit(exitNo, fmt.Errorf("%d of %d pairs of gateway and name become unreachable", report.Lost, report.Pairs))
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.links, "fail-link", nil, "link that fails, A:B or A:B#ID (repeatable)")
	fl.StringSliceVar(&f.failed, "fail-node", nil, "node that fails (repeatable)")
	fl.StringSliceVar(&f.metrics, "set-metric", nil, "metric of a link in both directions, A:B=METRIC (repeatable)")
	fl.StringSliceVar(&f.from, "from", nil, "gateway to look from (repeatable; default: all)")
	fl.UintVar(&f.limit, "limit", 1000, "at most so many of the pairs that are not as before are followed and listed, lost ones first; 0 is all")
	f.networkFlags.add(cmd)
	cmd.MarkFlagsOneRequired("fail-link", "fail-node", "set-metric")
	return cmd
}

// changed is a network before and after.
type changed struct {
	before, after *topology.Topology
	what          []string
	failed        []dmsc.NodeID
	dead          []topology.Link // those of failed nodes included
}

// change makes what the flags say of a copy of the topology.
func (f *whatifFlags) change(t *topology.Topology) (*changed, error) {
	after := *t
	after.Links, after.Pods = slices.Clone(t.Links), slices.Clone(t.Pods)
	c := &changed{before: t, after: &after}
	for _, text := range f.metrics {
		link, value, ok := strings.Cut(text, "=")
		metric, err := strconv.ParseUint(value, 10, 32)
		if !ok || err != nil || metric == 0 || dmsc.Metric(metric) > dmsc.MaxLinkMetric {
			return nil, fmt.Errorf("metric %q is not A:B=METRIC with 1 to %d", text, dmsc.MaxLinkMetric)
		}
		at, err := findLinks(after.Links, t, link)
		if err != nil {
			return nil, err
		}
		for _, i := range at {
			after.Links[i].Metric, after.Links[i].ReverseMetric = dmsc.Metric(metric), dmsc.Metric(metric)
		}
		c.what = append(c.what, fmt.Sprintf("%s costs %d", link, metric))
	}
	for _, link := range f.links {
		at, err := findLinks(after.Links, t, link)
		if err != nil {
			return nil, err
		}
		for _, i := range slices.Backward(at) {
			c.dead = append(c.dead, after.Links[i])
			after.Links = slices.Delete(after.Links, i, i+1)
		}
		c.what = append(c.what, link+" fails")
	}
	for _, name := range f.failed {
		id := dmsc.NodeID(name)
		if _, ok := t.Node(id); !ok {
			return nil, unknownNode(t, name)
		}
		after.Links = slices.DeleteFunc(after.Links, func(l topology.Link) bool {
			if l.A != id && l.B != id {
				return false
			}
			c.dead = append(c.dead, l)
			return true
		})
		after.Pods = slices.DeleteFunc(after.Pods, func(p topology.Pod) bool { return p.Gateway == id })
		c.failed = append(c.failed, id)
		c.what = append(c.what, name+" fails")
	}
	return c, nil
}

// findLinks returns the indices of a link, or of all between its nodes when no
// ID is given.
func findLinks(links []topology.Link, t *topology.Topology, text string) ([]int, error) {
	ends, id, one := strings.Cut(text, "#")
	a, b, ok := strings.Cut(ends, ":")
	if !ok {
		return nil, fmt.Errorf("link %q is not A:B or A:B#ID", text)
	}
	for _, n := range []string{a, b} {
		if _, ok := t.Node(dmsc.NodeID(n)); !ok {
			return nil, unknownNode(t, n)
		}
	}
	var at []int
	for i, l := range links {
		if (string(l.A) == a && string(l.B) == b || string(l.A) == b && string(l.B) == a) && (!one || string(l.ID) == id) {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		var near []string
		for _, l := range links {
			if string(l.A) == a {
				near = append(near, string(l.B))
			} else if string(l.B) == a {
				near = append(near, string(l.A))
			}
		}
		return nil, fmt.Errorf("there is no link %s in topology %s: %s has links to %s", text, t.Name, a, comma(slices.Compact(slices.Sorted(slices.Values(near)))))
	}
	return at, nil
}
