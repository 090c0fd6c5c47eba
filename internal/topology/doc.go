// Package topology reads the topology file (kind Topology, design §9): the
// nodes, links and pods of a whole network as one document.
//
// The demo starts processes from it, and the offline verbs compute from it by
// the same pure functions as a running node, because View is the very link
// state that all its nodes would agree on:
//
//	t, err := topology.Load("net.yaml") // or topology.Figure2()
//	view := t.View("sg-1")
//	r := rib.Compute(view)
//
// Nothing here knows how the network is run: no address is resolved and no
// port opened.
package topology
