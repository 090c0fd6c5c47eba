// Package featuretests proves what users of a network see, one file per
// feature: what happens to pods, policies and traffic when somebody announces,
// refuses, restarts or dies.
//
// Everything in it is real and in this process: agents (node.New and Run),
// SPA, SCSC, pods' clients, sockets. Only the Envoys are not: a fake one
// (envoy_test.go) speaks delta ADS, accepts or refuses what it is sent, and
// answers hellos and probes out of the routes and endpoints that it holds, so
// that a network of several nodes stands within a fraction of a second.
//
//	n := newNetwork(t, "sg-1 sr-1", "sr-1 sg-2") // started and converged
//	p := n.pod("pod-1", "sg-1", service("a/1"))
//	n.routed("sg-2", "a/1", "sr-1")              // waits, at most patience
//
// That something never happens is proved by a later event that takes the same
// way, not by waiting.
package featuretests
