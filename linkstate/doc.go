// Package linkstate is the link-state protocol of one node (design §4; draft
// §4.1 type 2, §4.2(4)): records and their order, adjacencies, the exchange and
// flooding of records, and the origination of our own. It is pure: it reads no
// clock, opens no socket, starts no goroutine and draws no chance but from its
// seed, so the same events give the same output, to the message.
//
// # The loop
//
// One goroutine owns an Instance, feeds it events and does what Ready asks:
//
//	inst, err := linkstate.New(cfg, time.Now())
//	inst.Step(time.Now(), linkstate.SetLinks{Links: links})
//	inst.Step(time.Now(), linkstate.SetPrefixes{Prefixes: prefixes}) // of the state file
//	for {
//		select {
//		case ev := <-events: // streams, messages, probes, local changes
//			inst.Step(time.Now(), ev)
//		case <-timer.C:
//			inst.Tick(time.Now())
//		}
//		rd := inst.Ready()
//		persist(rd.Incarnation) // before the messages
//		send(rd.Messages); probe(rd.Probe); reset(rd.Reset)
//		if rd.Changed != 0 {
//			recompute(inst.View(), rd.Changed) // flood first, compute after
//		}
//		timer.Reset(time.Until(inst.Deadline())) // zero: stop it
//	}
//
// Events may come in any order and make any sense or none: what is nonsense is
// reported as an Alarm and otherwise ignored. The control stream is expected to
// keep order and to say when it ends (StreamDown); messages that are lost or
// come twice only cost time. A half-open stream is the caller's to find.
//
// # Files
//
// event.go and lsa.go are the words. instance.go has Step, Tick, Ready and
// Deadline. A turn handles its event and then settles, for the adjacencies that
// it has touched (turn.go): adjacency.go moves the state machine of each link,
// damping.go holds a flapping one back, startup.go ends the start-up, drain.go
// takes a node out of service, delay.go measures a metric, algorithm.go says
// which one the domain uses, origination.go brings our records in line, flood.go
// queues what is new and fills the windows, reduction.go says over which links,
// by the covers that topology.go, numbering.go and cover.go compute. hello.go
// and exchange.go are the conversation with one neighbour, database.go the store
// and the order of records, receive.go and limits.go what is taken from a
// neighbour, alarm.go what an operator hears of it, difference.go what a new
// version means and goodnews.go when to compute it, view.go and records.go what
// readers get. docs/link-state.md names each rule of all this and the scene that
// shows it.
//
// # Adjacency
//
// The control session (3-way hello, database exchange) and the data path
// (probes through both Envoys) are independent facts. A link is advertised when
// both are there, and goes when the data path dies; if only the stream goes, it
// is held for up to Config.Hold. Our own data path counts as up until a
// DataPlane event says otherwise: an Envoy that has not been proved yet cannot
// pass a probe, and one that outlived its agent must not be denied.
//
// # Restart
//
// A node that restarts must not lose a request, although everybody else still
// routes through its Envoy by the records of its last life. So
//
//   - its neighbours hold the link: the stream is gone, the probes answer, the
//     NodeLSAs of both ends stay as they are;
//   - it withholds its records: they are in its own database, and leave only
//     when every neighbour whose stream came up is synchronized and every link
//     in question has its first probe result, at the latest Config.StartUp after
//     the first stream (but never before a first neighbour is synchronized: no
//     link of ours could be used, nor anything computed). Until they leave, the
//     records of the last life stay in force everywhere, and View.Synced is not
//     set. A caller whose neighbours are all away decides by its own clock when to
//     serve its local pods without them;
//   - what leaves is complete: the links that are back, and those whose stream is
//     not back yet but whose data path is alive and whose far end still
//     advertises them; those it holds in its turn. A NodeLSA of the same links
//     changes nothing anywhere but its incarnation, and no one computes;
//   - if something else changes meanwhile, whoever holds a link makes it a last
//     resort, because its far end does not compute.
//
// The neighbours show the node its own old records during the exchange. What
// they hold of its present incarnation or above comes from a life that a lost
// state file made it forget; it raises its incarnation above it. What it does
// not announce any more it adopts for the lease, then withdraws.
//
// # Agreement
//
// Versions of a record are totally ordered: (incarnation, seq), then the larger
// SHA-256 of the body (see Order). Every node takes any newer version from
// anyone and answers an older one with the newer, so databases agree once
// messages get through, in whatever order. The rules by which a record is
// refused for good or has no effect look at the record and at how many its origin
// has, so all nodes judge alike (limits.go). What is refused is a stub in the
// digests for who sent it; for want of room, or by a clock, only for a while.
// linkstatetest checks all this over random networks and faults.
//
// # Flood reduction
//
// With more than 8 links per node on average a record does not take all links
// but two covers: spanning trees that every node computes alike from its records
// (cover.go). What comes by a cover goes on by that cover, once. Whatever single
// node or link is lost, one of the two still leads to everybody, at the cost of
// two copies per node. While a node is in doubt (it starts, a cover has lost a
// link, the covers were others a second ago) it floods over all links, as every
// node does at any time towards observers, neighbours in exchange and links that
// the covers do not know (reduction.go). What two failures at once leave out, the
// digests bring. RFC 9667 and draft-ietf-lsr-distoptflood do the like for IS-IS
// and OSPF; docs/adr/0008 compares.
//
// # Neighbours that lie
//
// Whatever a neighbour sends costs a bounded amount of memory (pending sets are
// no larger than the database, the database has a limit, alarms have a rate) and
// work in proportion to what it sends; a caller that takes one event per stream
// at a time leaves that to the flow control of its stream. What a neighbour says
// changes its own adjacency, and records, which are the same for all.
//
// # Time
//
// Records carry their end of life by the wall clock of their origin. It is read
// once, when a record comes in; from then on elapsed time counts. So a wall
// clock that is set ends nothing, and clocks may differ by MaxSkew.
package linkstate
