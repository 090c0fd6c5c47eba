// Package spf computes shortest paths over a graph of declared links.
//
// The owner of a Graph tells it what each node declares and runs a Tree from
// whatever root it wants to know about:
//
//	g := spf.NewGraph()
//	for _, n := range lsdb {
//		g.Set(n.ID, n.LastResort, n.Links) // true if this changed anything
//	}
//	var t spf.Tree                  // keeps its scratch between runs
//	t.Run(g, g.Index("sg-1"))
//	t.Distance(g.Index("sg-4"))     // 20
//	for _, arc := range t.FirstHops(g.Index("sg-4")) { … } // all of equal cost
//
// Who follows a network that changes repairs the Tree instead (incremental SPF,
// see repair.go), and is told which nodes have moved:
//
//	g.Take()                             // before the first Run
//	…
//	g.Set("sr-7", false, links)          // any number of changes
//	moved, _ := t.Update(g, g.Take())    // the same Changes for every Tree over g
//
// A link is used only if both ends declare it under the same link id (two-way
// check, design §4), so a node that is gone but still declared by others is
// never on a path. Nodes are interned as small integers that stay the same for
// the life of the Graph; nothing that leaves the package depends on their
// values, only on node and link ids.
//
// The package knows no records, names or clocks: package rib turns the LSDB
// into a Graph.
package spf
