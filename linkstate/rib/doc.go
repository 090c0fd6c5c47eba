// Package rib computes where a node sends each name: from the link-state
// database, over shortest paths, to next-hop groups that many names share.
//
//	e := rib.New("sg-1")
//	for rd := range ready {
//		r, delta := e.Update(instance.View(), rd.Changed, rd.Records)
//		for en := range delta.Changed() { … }
//	}
//	r.Lookup("a/1/x").Group.Name // "sr-1~sr-2": next hop sr-1, alternate sr-2
//
// # What is in a RIB
//
// One entry per name: the announced prefixes of reachable owners, the functions
// (pools) of prefixes announced directly below a name that is not itself
// announced, and dmsc/node/<id> of every other reachable node.
//
// Owners are chosen by best preference, then by distance + prefix metric; all
// equal ones are chosen, and the request goes to the union of the first hops
// towards them. A node that is itself among the chosen owners delivers.
//
// # Why forwarding does not loop
//
// For the owners O of a name let D(X) = min over o in O of dist(X, o) +
// metric(o). Every hop X→Y of a shortest path satisfies D(X) ≥ cost(X, Y) +
// D(Y) with cost ≥ 1, so D falls with each hop until an owner delivers,
// whichever of the equal next hops is taken and whatever owner X had in mind.
//
// # Alternates
//
// An entry with one primary next hop gets an alternate: a neighbour that takes
// the request when the primary is lost, before anybody has computed anything
// anew. See alternate.go for the rule and why it does not loop either. Several
// primaries of equal cost protect each other.
package rib
