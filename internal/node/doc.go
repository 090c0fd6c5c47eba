// Package node joins everything into an SG or SR agent: one goroutine, the
// loop, owns the link-state instance, the pods' announcements, the policies,
// the RIB and what is published to Envoy. Everything else only brings events
// to it and carries its effects out.
//
//	n, err := node.New(cfg, log) // opens listeners and the state file, starts nothing
//	err = n.Run(ctx)             // until ctx ends or something cannot go on
//
// What wakes the loop, one named function each in events.go:
//
//	control streams (linkstate/peering) ─┐
//	pods' announcements (announce.go)   ─┤
//	verdicts of the SPA (spa.Client)    ─┤
//	policies of the SCSC (scsc.Client)  ─┼─▶ events ─▶ loop ─▶ settle
//	probes (internal/measure)           ─┤
//	Envoy's ACKs, NACKs, going (xds)    ─┤
//	an operator's documents, drain,     ─┤
//	  rollback (documents.go, drain.go,  │
//	  rollback.go)                       │
//	the clock (deadline of the parts)   ─┘
//
// settle (pipeline.go) is the walk of a datum: flood, compute, overlay,
// translate, publish. It runs once per batch of events and never blocks: a
// disk write, a message, a probe or an ACK is somebody else's work, whose end
// comes back as an event.
//
// Readers do not ask the loop. They get an immutable picture by an atomic
// pointer, and the records from a go-memdb table that is written once per batch;
// what a page says of them (pages.go) is made by its reader.
package node
