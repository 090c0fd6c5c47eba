package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator/envoysim"
)

type whatifFlags struct {
	topology, output           string
	links, nodes, metrics, via []string
	live                       nodeFlags
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
			if f.live.wanted(f.topology != "") {
				t, err = liveTopology(cmd, &f.live)
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
			report, err := whatif(c, f.via, names)
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
	fl.StringVarP(&f.topology, "topology", "f", "", "topology file, - for stdin (default: Figure 2)")
	fl.StringSliceVar(&f.links, "fail-link", nil, "link that fails, A:B or A:B#ID (repeatable)")
	fl.StringSliceVar(&f.nodes, "fail-node", nil, "node that fails (repeatable)")
	fl.StringSliceVar(&f.metrics, "set-metric", nil, "metric of a link in both directions, A:B=METRIC (repeatable)")
	fl.StringSliceVar(&f.via, "from", nil, "gateway to look from (repeatable; default: all)")
	fl.StringVarP(&f.output, "output", "o", "table", "table, json or yaml")
	f.live.addServers(cmd)
	cmd.MarkFlagsMutuallyExclusive("topology", "server")
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
	for _, name := range f.nodes {
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

// whatifReport is the output of `dmsc whatif`.
type whatifReport struct {
	Changes []string `json:"changes"`
	Pairs   int      `json:"pairs"` // of gateway and name that can be reached before
	Lost    int      `json:"lost"`
	Moved   int      `json:"moved"`
	Kept    int      `json:"kept"`
	// Interrupted pairs get errors until the routes are computed anew.
	Interrupted int          `json:"interrupted"`
	Effects     []pairEffect `json:"effects"` // of pairs that are not kept
}

type pairEffect struct {
	Gateway dmsc.NodeID `json:"gateway"`
	Name    string      `json:"name"`
	Effect  string      `json:"effect"` // lost, moved or new
	Before  *wayOut     `json:"before,omitempty"`
	// Until says what a request meets before anything is computed: "answered",
	// with the nodes it passes, or the error.
	Until     string   `json:"until"`
	UntilPath []string `json:"until_path"`
	After     *wayOut  `json:"after,omitempty"`
}

// wayOut is how a gateway reaches a name.
type wayOut struct {
	Distance dmsc.Metric   `json:"distance"`
	Egress   []dmsc.NodeID `json:"egress"`
	NextHops []string      `json:"next_hops"`
	Path     []string      `json:"path"` // the first of Ways
	Ways     int           `json:"ways"` // equal ones, to all egresses
	flow     string
}

func whatif(c *changed, from, names []string) (*whatifReport, error) {
	for _, g := range from {
		if n, ok := c.before.Node(dmsc.NodeID(g)); !ok {
			return nil, unknownNode(c.before, g)
		} else if n.Role != dmsc.RoleSG {
			return nil, fmt.Errorf("node %s is not an SG: no requests of pods begin there", g)
		}
	}
	before, err := simulated(c.before, nil)
	if err != nil {
		return nil, err
	}
	after := make(map[dmsc.NodeID]*rib.RIB)
	for _, n := range c.after.Nodes {
		after[n.ID] = rib.Compute(c.after.View(n.ID))
	}
	before.Dead = c.refuses(before)
	r := &whatifReport{Changes: c.what, Effects: []pairEffect{}}
	known := make(map[string]bool)
	for _, n := range c.before.Nodes {
		if n.Role != dmsc.RoleSG || len(from) > 0 && !slices.Contains(from, string(n.ID)) {
			continue
		}
		all := namesOf(before.ribs[n.ID], after[n.ID])
		for _, name := range all {
			known[name] = true
			if len(names) > 0 && !slices.Contains(names, name) {
				continue
			}
			if err := r.compare(c, before, after, n.ID, name); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range names {
		if !known[name] {
			return nil, fmt.Errorf("%q is no name of topology %s%s", name, c.before.Name, didYouMean(name, slices.Sorted(maps.Keys(known))))
		}
	}
	return r, nil
}

// refuses says which hosts are dead before anybody has noticed.
func (c *changed) refuses(o *offline) func(dmsc.NodeID, string) bool {
	return func(from dmsc.NodeID, address string) bool {
		to, _, ok := o.Listener(address)
		if !ok {
			return false
		}
		joins := func(l topology.Link) bool { return l.A == from && l.B == to || l.A == to && l.B == from }
		// Links to one node lead to one address: it is dead when all of them are.
		return slices.Contains(c.failed, to) || slices.ContainsFunc(c.dead, joins) && !slices.ContainsFunc(c.after.Links, joins)
	}
}

// namesOf are the names that one of two RIBs has, sorted.
func namesOf(ribs ...*rib.RIB) []string {
	names := make(map[string]bool)
	for _, r := range ribs {
		for e := range r.All() {
			if e.Kind != rib.Node {
				names[e.Prefix.String()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// compare adds what happens between one gateway and one name.
func (r *whatifReport) compare(c *changed, before *offline, after map[dmsc.NodeID]*rib.RIB, gateway dmsc.NodeID, name string) error {
	e := pairEffect{Gateway: gateway, Name: name, Before: wayTo(before.ribs, gateway, name), UntilPath: []string{}}
	if !slices.Contains(c.failed, gateway) {
		e.After = wayTo(after, gateway, name)
	}
	switch {
	case e.Before == nil && e.After == nil:
		return nil
	case e.Before == nil:
		e.Effect = "new"
		r.Effects = append(r.Effects, e)
		return nil
	case e.After == nil:
		e.Effect = "lost"
		r.Lost++
	case e.Before.flow != e.After.flow || e.Before.Distance != e.After.Distance:
		e.Effect = "moved"
		r.Moved++
	default:
		r.Kept++
	}
	r.Pairs++
	if e.Effect == "" {
		return nil
	}
	request := envoysim.Request{Headers: envoysim.Headers{{Name: "dmsc-service-prefix", Value: name}}}
	step, err := before.Walk(gateway, "dmsc/ingress", request, envoysim.Heaviest)
	if err != nil {
		return fmt.Errorf("%s from %s: %w", name, gateway, err)
	}
	switch {
	case slices.Contains(c.failed, gateway):
		e.Until = "the gateway is down"
	case step.Pod != "":
		e.Until = "answered"
		for _, h := range step.Request.Headers {
			if h.Name == "dmsc-via" {
				e.UntilPath = append(e.UntilPath, strings.Trim(h.Value, "<>"))
			}
		}
	default:
		e.Until = fmt.Sprintf("%d %s", step.Reply.Status, cmp.Or(step.Reply.Error(), "without dmsc-error"))
	}
	if e.Until != "answered" {
		r.Interrupted++
	}
	r.Effects = append(r.Effects, e)
	return nil
}

// wayTo follows the next hops of all nodes from a gateway; nil is no way.
func wayTo(ribs map[dmsc.NodeID]*rib.RIB, gateway dmsc.NodeID, name string) *wayOut {
	e := ribs[gateway].Lookup(name)
	if e == nil {
		return nil
	}
	w := &wayOut{Distance: e.Distance, Egress: e.Egress, NextHops: []string{}, Path: []string{string(gateway)}}
	if !e.Local {
		w.NextHops = hops(e.Group.Primaries)
	}
	var edges []string
	seen := map[dmsc.NodeID]bool{gateway: true}
	for todo := []dmsc.NodeID{gateway}; len(todo) > 0; todo = todo[1:] {
		at := ribs[todo[0]].Lookup(name)
		if at == nil || at.Local {
			continue
		}
		for i, h := range at.Group.Primaries {
			edges = append(edges, string(todo[0])+">"+h.LinkKey.String())
			if i == 0 && string(todo[0]) == w.Path[len(w.Path)-1] {
				w.Path = append(w.Path, string(h.Remote))
			}
			if !seen[h.Remote] {
				seen[h.Remote] = true
				todo = append(todo, h.Remote)
			}
		}
	}
	slices.Sort(edges)
	w.flow = strings.Join(edges, " ")
	w.Ways = waysFrom(ribs, gateway, name, make(map[dmsc.NodeID]int))
	return w
}

// waysFrom counts the paths along next hops; counted has those of nodes that
// were passed before.
func waysFrom(ribs map[dmsc.NodeID]*rib.RIB, at dmsc.NodeID, name string, counted map[dmsc.NodeID]int) int {
	e := ribs[at].Lookup(name)
	switch n, done := counted[at]; {
	case done:
		return n
	case e == nil:
		return 0
	case e.Local:
		return 1
	}
	n := 0
	for _, h := range e.Group.Primaries {
		n += waysFrom(ribs, h.Remote, name, counted)
	}
	counted[at] = n
	return n
}

func printWhatif(w io.Writer, r *whatifReport) error {
	fmt.Fprintf(w, "%s\n%d pairs of gateway and name: %d moved, %d lost, %d as before; %d interrupted until routes are computed anew\n",
		strings.Join(r.Changes, ", "), r.Pairs, r.Moved, r.Lost, r.Kept, r.Interrupted)
	if len(r.Effects) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	way := func(w *wayOut) string {
		if w == nil {
			return ""
		}
		text := fmt.Sprintf("%d %s", w.Distance, strings.Join(w.Path, " "))
		if w.Ways > 1 {
			text += fmt.Sprintf(" (1 of %d)", w.Ways)
		}
		return text
	}
	var rows [][]string
	for _, e := range r.Effects {
		until := e.Until
		if len(e.UntilPath) > 0 {
			until = strings.Join(e.UntilPath, " ")
		}
		rows = append(rows, []string{string(e.Gateway), e.Name, e.Effect, way(e.Before), until, way(e.After)})
	}
	return columns(w, "GATEWAY  NAME  EFFECT  BEFORE  AT ONCE  AFTER", rows)
}
