package scsc

import (
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// line is a network of SGs in a row, the first at one end; change alters what a
// node announces.
func line(change map[dmsc.NodeID]func(*linkstate.NodeLSA), prefixes map[dmsc.NodeID]linkstate.Prefix) *network {
	ids := []dmsc.NodeID{"sg-1", "sg-2", "sg-3", "sg-4"}
	var records []*linkstate.LSA
	for n, id := range ids {
		node := &linkstate.NodeLSA{Role: dmsc.RoleSG, Transit: true, Algorithm: linkstate.AlgorithmDelay, Avoid: []string{"satellite"}}
		for _, to := range []int{n - 1, n + 1} {
			if to >= 0 && to < len(ids) {
				node.Links = append(node.Links, linkstate.Link{Remote: ids[to], ID: "0", Metric: 10})
			}
		}
		if c := change[id]; c != nil {
			c(node)
		}
		records = append(records, &linkstate.LSA{Key: linkstate.Key{Origin: id, Type: linkstate.TypeNode}, Content: node})
		if p, ok := prefixes[id]; ok {
			records = append(records, &linkstate.LSA{Key: linkstate.Key{Origin: id, Type: linkstate.TypePrefix}, Content: &linkstate.PrefixLSA{Prefixes: []linkstate.Prefix{p}}})
		}
	}
	return newNetwork(linkstate.NewRecords(records...))
}

func TestTheAlgorithmIsTheMajoritysAsInTheRIB(t *testing.T) {
	for name, c := range map[string]struct {
		change map[dmsc.NodeID]func(*linkstate.NodeLSA)
		want   dmsc.Metric
	}{
		"all alike":         {nil, 30},
		"another algorithm": {map[dmsc.NodeID]func(*linkstate.NodeLSA){"sg-2": func(n *linkstate.NodeLSA) { n.Algorithm = linkstate.AlgorithmIGP }}, 30 + dmsc.LastResort},
		"other tags":        {map[dmsc.NodeID]func(*linkstate.NodeLSA){"sg-3": func(n *linkstate.NodeLSA) { n.Avoid = nil }}, 30 + dmsc.LastResort},
		"avoided link":      {map[dmsc.NodeID]func(*linkstate.NodeLSA){"sg-1": func(n *linkstate.NodeLSA) { n.Links[0].Tags = []string{"east", "satellite"} }}, 30 + dmsc.LastResort},
		"other link":        {map[dmsc.NodeID]func(*linkstate.NodeLSA){"sg-1": func(n *linkstate.NodeLSA) { n.Links[0].Tags = []string{"east"} }}, 30},
	} {
		n := line(c.change, nil)
		if got := n.tree("sg-1").Distance(n.graph.Index("sg-4")); got != c.want {
			t.Errorf("%s: from sg-1 to sg-4 it is %d, want %d", name, got, c.want)
		}
	}
}

func TestADrainedOwnerIsACandidateOnlyAlone(t *testing.T) {
	a := dmsc.MustParsePrefix("a/1")
	drained := linkstate.Prefix{Prefix: a, Metric: 5 + dmsc.LastResort}
	owners := func(prefixes map[dmsc.NodeID]linkstate.Prefix) (ids []dmsc.NodeID) {
		for _, o := range line(nil, prefixes).eligible("sg-1", a) {
			ids = append(ids, o.node)
		}
		return ids
	}
	if got := owners(map[dmsc.NodeID]linkstate.Prefix{"sg-2": drained, "sg-4": {Prefix: a}}); len(got) != 1 || got[0] != "sg-4" {
		t.Errorf("beside sg-4 the drained sg-2 counts: %v", got)
	}
	if got := owners(map[dmsc.NodeID]linkstate.Prefix{"sg-2": drained}); len(got) != 1 || got[0] != "sg-2" {
		t.Errorf("alone the drained sg-2 does not count: %v", got)
	}
}
