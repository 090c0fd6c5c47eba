package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/topology"
)

// whatifReport is the output of `dmsc whatif`.
type whatifReport struct {
	Changes []string `json:"changes"`
	Pairs   int      `json:"pairs"` // of gateway and name that can be reached before
	Lost    int      `json:"lost"`
	Moved   int      `json:"moved"`
	Kept    int      `json:"kept"`
	// Interrupted pairs get errors until the routes are computed anew.
	Interrupted int          `json:"interrupted"`
	Effects     []pairEffect `json:"effects"` // of pairs that are not kept, by gateway and name
	// Omitted pairs are beyond --limit: counted above, but neither in Effects nor
	// in Interrupted.
	Omitted int `json:"omitted"`
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
	Prefix   string        `json:"prefix"` // that answers the name
	Distance dmsc.Metric   `json:"distance"`
	Egress   []dmsc.NodeID `json:"egress"`
	NextHops []string      `json:"next_hops"`
	Path     []string      `json:"path"` // the first of Ways
	Ways     int           `json:"ways"` // equal ones, to all egresses
}

// effect is a pair that is not as before, by indices.
type effect struct {
	gateway, name int
	what          string
}

// whatif compares the network before and after the change, for some gateways or
// all and some names or all.
func whatif(c *changed, from, names []string, limit int) (*whatifReport, error) {
	gateways, err := gatewaysOf(c.before, from)
	if err != nil {
		return nil, err
	}
	asked := len(names) > 0
	if slices.Sort(names); !asked {
		names = namesOf(c.before)
	}
	n := converge(c, gateways, slices.Compact(names))
	r := &whatifReport{Changes: c.what, Effects: []pairEffect{}}
	var effects []effect
	for i, name := range n.names {
		of := r.compare(c, n, gateways, i, &effects)
		if asked && !of {
			return nil, fmt.Errorf("no gateway has a prefix for %q in topology %s%s", name, c.before.Name, didYouMean(strings.ToLower(name), namesOf(c.before)))
		}
	}
	if limit > 0 && len(effects) > limit {
		slices.SortStableFunc(effects, func(a, b effect) int { return cmp.Compare(a.rank(), b.rank()) })
		r.Omitted = len(effects) - limit
		effects = effects[:limit]
		slices.SortFunc(effects, func(a, b effect) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.gateway, b.gateway)) })
	}
	if err := r.describe(c, n, gateways, effects); err != nil {
		return nil, err
	}
	return r, nil
}

func (e effect) rank() int { return slices.Index([]string{"lost", "moved", "new"}, e.what) }

func gatewaysOf(t *topology.Topology, from []string) (gateways []dmsc.NodeID, err error) {
	for _, g := range from {
		if n, ok := t.Node(dmsc.NodeID(g)); !ok {
			return nil, unknownNode(t, g)
		} else if n.Role != dmsc.RoleSG {
			return nil, fmt.Errorf("node %s is not an SG: no requests of pods begin there", g)
		}
	}
	for _, n := range t.Nodes {
		if n.Role == dmsc.RoleSG && (len(from) == 0 || slices.Contains(from, string(n.ID))) {
			gateways = append(gateways, n.ID)
		}
	}
	if len(gateways) == 0 {
		return nil, fmt.Errorf("topology %s has no SG, where requests of pods begin", t.Name)
	}
	return gateways, nil
}

// namesOf are the prefixes that pods announce and their functions, sorted. Of a
// function that is itself announced, and of a prefix that nobody reaches, a RIB
// has its own opinion.
func namesOf(t *topology.Topology) []string {
	names := make(map[string]bool)
	for _, p := range t.Pods {
		for _, s := range p.Services {
			names[s.Prefix.String()] = true
			if f, ok := s.Prefix.Function(); ok {
				names[f.String()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// compare adds what happens to a name, and reports whether a gateway knows it.
func (r *whatifReport) compare(c *changed, n *converged, gateways []dmsc.NodeID, name int, effects *[]effect) (known bool) {
	moved := make(map[dmsc.NodeID]bool)
	for i, g := range gateways {
		before, after := n.nodes[g].before[name], n.nodes[g].after[name]
		if slices.Contains(c.failed, g) {
			after = way{}
		}
		what := ""
		switch {
		case before.none() && after.none():
			continue
		case before.none():
			what = "new"
		case after.none():
			what = "lost"
			r.Lost++
		case before.distance != after.distance || n.moved(g, name, moved):
			what = "moved"
			r.Moved++
		default:
			r.Kept++
		}
		if known = true; !before.none() {
			r.Pairs++
		}
		if what != "" {
			*effects = append(*effects, effect{i, name, what})
		}
	}
	return known
}

// describe writes out effects, which come sorted by name and gateway.
func (r *whatifReport) describe(c *changed, n *converged, gateways []dmsc.NodeID, effects []effect) error {
	until := meanwhile(c, n, gateways, effects)
	for at := 0; at < len(effects); {
		name := effects[at].name
		before := func(id dmsc.NodeID) way { return n.nodes[id].before[name] }
		after := func(id dmsc.NodeID) way { return n.nodes[id].after[name] }
		countedBefore, countedAfter := make(map[dmsc.NodeID]int), make(map[dmsc.NodeID]int)
		for ; at < len(effects) && effects[at].name == name; at++ {
			g := gateways[effects[at].gateway]
			e := pairEffect{Gateway: g, Name: n.names[name], Effect: effects[at].what, UntilPath: []string{}}
			e.Before = n.wayTo(name, before, g, countedBefore)
			if !slices.Contains(c.failed, g) {
				e.After = n.wayTo(name, after, g, countedAfter)
			}
			if e.Before != nil {
				if err := until(&e); err != nil {
					return fmt.Errorf("%s from %s: %w", e.Name, g, err)
				}
				if e.Until != "answered" {
					r.Interrupted++
				}
			}
			r.Effects = append(r.Effects, e)
		}
	}
	order := make(map[dmsc.NodeID]int)
	for i, g := range gateways {
		order[g] = i
	}
	slices.SortStableFunc(r.Effects, func(a, b pairEffect) int { return cmp.Compare(order[a.Gateway], order[b.Gateway]) })
	return nil
}

// wayTo follows the first next hops from a gateway; nil is no way. counted has
// the numbers of ways that are known already.
func (n *converged) wayTo(name int, ways func(dmsc.NodeID) way, gateway dmsc.NodeID, counted map[dmsc.NodeID]int) *wayOut {
	first := ways(gateway)
	if first.none() {
		return nil
	}
	w := &wayOut{
		Prefix: n.entry(name, first).Prefix.String(), Distance: first.distance, Egress: egress(ways, gateway), NextHops: hops(first.hops()),
		Path: []string{string(gateway)}, Ways: count(ways, gateway, counted),
	}
	for at := first; len(at.hops()) > 0; {
		next := at.hops()[0].Remote
		w.Path = append(w.Path, string(next))
		at = ways(next)
	}
	return w
}

func printWhatif(w io.Writer, r *whatifReport) error {
	fmt.Fprintf(w, "%s\n%d pairs of gateway and name: %d moved, %d lost, %d as before; %d interrupted until routes are computed anew\n",
		strings.Join(r.Changes, ", "), r.Pairs, r.Moved, r.Lost, r.Kept, r.Interrupted)
	if r.Omitted > 0 {
		fmt.Fprintf(w, "%d pairs that are not as before are beyond --limit: not in the list, and not among the interrupted\n", r.Omitted)
	}
	if len(r.Effects) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	way := func(e pairEffect, w *wayOut) string {
		if w == nil {
			return ""
		}
		text := fmt.Sprintf("%d %s", w.Distance, strings.Join(w.Path, " "))
		if w.Ways > 1 {
			text += fmt.Sprintf(" (1 of %d)", w.Ways)
		}
		if w.Prefix != e.Name {
			text += " for " + w.Prefix
		}
		return text
	}
	var rows [][]string
	for _, e := range r.Effects {
		until := e.Until
		if len(e.UntilPath) > 0 {
			until = strings.Join(e.UntilPath, " ")
		}
		rows = append(rows, []string{string(e.Gateway), e.Name, e.Effect, way(e, e.Before), until, way(e, e.After)})
	}
	return columns(w, "GATEWAY  NAME  EFFECT  BEFORE  AT ONCE  AFTER", rows)
}
