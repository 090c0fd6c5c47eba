// Package translator turns the state of one node into the Envoy resources that
// make its Envoy forward (design §5). It is a pure function: the same State
// gives equal resources, also in another process, and it knows neither clock
// nor socket nor LSA.
//
//	r, err := translator.Translate(state)
//	if err == nil {
//		_, err = server.Publish(name, xds.SetOf(r)) // validates
//	}
//	if err != nil {
//		return err // the last good set stays published
//	}
//
// A node that translates one state after the other keeps a Translator, which
// makes the same of each, and anew only what has changed; xds neither validates
// nor marshals what it had before.
//
// Bootstrap writes the file a managed Envoy starts with; Static writes one that
// runs without any agent; YAML prints either.
//
// # The form of the FIB
//
// Two route tables are keyed by a header instead of the host (vhost_header), so
// Envoy's host table does longest-prefix match on service prefixes. A key is a
// name and "/." after it, so that one wildcard is enough for a prefix:
//
//	a/1   announced   domain  a/1/*         of the keys a/1/., a/1//., a/1/x/. and not a/10/.
//	a     function    domains a/., a//.     exact: a/99 is not in the pool
//
// There is one virtual host per (next-hop group, class) and some 500 names, so
// that a name that moves costs two of them (names.go). The class of a name says
// what may be repeated: once (default), safe (replay_safe) and tcp
// (CONNECT, which only connect_matcher routes match).
//
//	listener      table         requests of
//	dmsc/ingress  dmsc/ingress  pods: aliases, policies, retries on dmsc-error
//	dmsc/outside  dmsc/outside  clients outside the mesh: aliases that are opened to them
//	dmsc/fabric   dmsc/fabric   neighbours: explicit paths, transit, delivery
//	dmsc/demote   dmsc/fabric   ourselves: a path that broke continues without it
//	                            and a gateway without a living next hop looks again
//	dmsc/probe    dmsc/probe    the agent: GET /<neighbour>[/<link>]
//
// What Envoy writes about requests is accesslog.go, what it counts stats.go, what
// it gives up when memory is short overload.go, what it fetches late ondemand.go.
//
// A request walks: trust border (border.go, header.go, outside.go) → virtual host
// (ingress.go; without a prefix alias.go, external.go) → group
// (cluster.go, endpoint.go) → next node's fabric table (fabric.go): first the
// via guard, then explicit path or ordinary hop → delivery (route.go).
package translator
