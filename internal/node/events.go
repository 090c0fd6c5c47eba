package node

import (
	"maps"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/measure"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/scsc"
	"github.com/dmsc-mesh/dmsc/spa"
	"github.com/dmsc-mesh/dmsc/xds"
)

// event is something that happened outside and now changes the node's state.
// apply runs on the loop; what follows from it is left to settle.
type event interface {
	apply(n *Node, now time.Time)
}

// protocol wraps an event of the link-state protocol: a stream came, went or
// brought a message.
type protocol struct {
	linkstate.Event
	applied chan struct{}
}

func (e protocol) apply(n *Node, now time.Time) {
	n.metrics.received(e.Event)
	n.noteStream(now, e.Event)
	n.instance.Step(now, e.Event)
	close(e.applied)
}

// heard hands on what a stream brought and waits until the loop has taken it
// in: one event per stream is on its way, so that a neighbour that floods us
// fills its own stream and not the queue that all share.
func (n *Node) heard(ev linkstate.Event) {
	e := protocol{ev, make(chan struct{})}
	n.deliver(e)
	select {
	case <-e.applied:
	case <-n.dead:
	}
}

// probed: a neighbour's Envoy answered through ours, or did not.
type probed measure.Result

func (e probed) apply(n *Node, now time.Time) {
	if n.noteProbe(now, e) && e.OK {
		n.peers.Redial(e.Link) // its agent is there too, or soon
	}
	n.quality(e.Link).probed(now, measure.Result(e))
	p := linkstate.Probed{Link: e.Link, OK: e.OK, Peer: e.Peer, RTT: e.RTT, Refused: e.Refused}
	if e.Cold {
		p.RTT = 0
	}
	n.instance.Step(now, p)
}

// selfProbed: our own Envoy serves a FIB, or does not. Silent means that it
// said nothing in time, which a busy machine can cause too.
type selfProbed struct{ up, silent bool }

// selfSilences in a row are taken for the end of our Envoy.
const selfSilences = 3

func (e selfProbed) apply(n *Node, now time.Time) {
	l := &n.loop
	if e.silent {
		if l.selfSilent++; l.selfSilent < selfSilences {
			return
		}
	} else {
		l.selfSilent = 0
	}
	if e.up != l.dataPlane {
		n.log.Info("data plane", "up", e.up)
		switch {
		case !e.up:
			l.withheld = e.silent && l.begunPublishing
		case l.withheld:
			l.publishAt = now.Add(publishLimit)
		}
	}
	if e.up != l.dataPlane || l.selfSince.IsZero() {
		l.selfSince = now
		l.expect(now)
	}
	l.dataPlane, l.dataPlaneKnown = e.up, true
	n.instance.Step(now, linkstate.DataPlane{Up: e.up})
}

// podAnnounced: a pod announced its services (draft §6.1(1)).
type podAnnounced struct {
	session  *session
	statuses chan []prefixStatus
	applied  chan<- struct{} // of capacity 1
}

func (e podAnnounced) apply(n *Node, now time.Time) {
	claims := n.registry.announce(e.session)
	n.loop.listeners[e.session.id] = &listener{statuses: e.statuses}
	n.authenticate(e.session.pod, claims)
	e.applied <- struct{}{}
}

// podWithdrew: a pod took its announcement back.
type podWithdrew struct {
	id       uint64
	statuses chan []prefixStatus
	applied  chan<- struct{} // of capacity 1
}

func (e podWithdrew) apply(n *Node, now time.Time) {
	var gone []prefixStatus
	for _, s := range n.registry.statuses(e.id, false, now) {
		s.state, s.code, s.reason = withdrawn, "", ""
		gone = append(gone, s)
	}
	newest(e.statuses, gone)
	if pod, claims, ok := n.registry.withdraw(e.id); ok {
		delete(n.loop.listeners, e.id)
		n.authenticate(pod, claims)
	}
	e.applied <- struct{}{}
}

// sessionClosed: an announcement stream has ended; its lease runs.
type sessionClosed struct{ id uint64 }

func (e sessionClosed) apply(n *Node, now time.Time) {
	delete(n.loop.listeners, e.id)
	n.registry.closed(e.id, now)
}

// judged: the SPA answered, or notified of a change (draft §4.2(2)).
type judged struct {
	pod      string
	verdicts []spa.Verdict
}

func (e judged) apply(n *Node, now time.Time) {
	for _, v := range e.verdicts {
		prefix, err := dmsc.ParsePrefix(v.Prefix)
		if err != nil {
			continue // refused before it was claimed
		}
		if !v.Granted {
			n.log.Warn("announcement refused", "pod", e.pod, "prefix", v.Prefix, "code", string(v.Code), "reason", v.Reason)
		}
		n.metrics.verdict(v.Granted)
		if n.registry.judge(e.pod, prefix, verdict{granted: v.Granted, code: string(v.Code), reason: v.Reason, final: v.Final}) {
			n.loop.dirty = true
		}
	}
}

// spaAway: whether any SPA can be asked.
type spaAway struct{ away bool }

func (e spaAway) apply(n *Node, now time.Time) {
	n.loop.spa.turn(e.away, now)
	n.log.Info("spa", "away", e.away)
}

// policiesArrived: the SCSC sent a set of policies, or renewed it.
type policiesArrived struct{ set scsc.PolicySet }

func (e policiesArrived) apply(n *Node, now time.Time) {
	until := n.overlay.Until()
	arrived := n.overlay.Apply(now, e.set)
	if !n.overlay.Until().Equal(until) {
		n.loop.dirty = true // a renewal outlives a restart, too
	}
	if arrived {
		n.loop.policySet = e.set
		n.loop.unverified = true
		maps.DeleteFunc(n.loop.suspended, func(id, _ string) bool {
			return !slices.ContainsFunc(e.set.Policies, func(p scsc.Policy) bool { return p.ID == id })
		})
		n.log.Info("policies", "term", e.set.Term, "generation", e.set.Generation, "policies", len(e.set.Policies))
	}
}

// planArrived: the SCSC says what to measure, and how often.
type planArrived struct{ plan scsc.Plan }

func (e planArrived) apply(n *Node, now time.Time) {
	n.loop.plan = e.plan
	n.loop.nextReport = now
}

// scscConnected: the session with the SCSC has begun or ended. What it hears
// from us it hears from the beginning.
type scscConnected struct{ connected bool }

func (e scscConnected) apply(n *Node, now time.Time) {
	n.loop.scsc.turn(!e.connected, now)
	n.log.Info("scsc", "connected", e.connected)
	n.loop.reported = nil
}

// detected: a local target turned healthy or unhealthy by its own word, or fails
// in another way (draft §4.2(5)).
type detected measure.Detection

func (e detected) apply(n *Node, now time.Time) {
	n.log.Info("self-detection", "prefix", e.Prefix.String(), "address", e.Address, "healthy", e.Healthy, "err", e.Err)
	n.registry.detected(e.Prefix, e.Address, e.Err, now)
}

// trafficCounted: what goes over each link, as Envoy counts it.
type trafficCounted struct {
	rates map[linkstate.LinkKey]measure.Rate
}

func (e trafficCounted) apply(n *Node, now time.Time) { n.loop.rates = e.rates }

// envoySaid: the state of Envoy's xDS streams changed.
type envoySaid struct {
	xds.Event
	refusals []traced // Nacked
}

func (e envoySaid) apply(n *Node, now time.Time) {
	if e.Node != string(n.cfg.Node) {
		// Nothing is published to it, and it says nothing about ours.
		n.log.Warn("an envoy with another node id uses our xds listener; correct node.id in its bootstrap", "envoy", e.Node, "event", e.Kind.String())
		return
	}
	switch e.Kind {
	case xds.Connected:
		if e.Streams == 1 { // of one per type, the first
			n.log.Info("envoy connected")
		}
		n.loop.owes(n.loop.publication != nil && n.loop.publication.version != n.loop.acked, now)
		kick(n.kickSelf)
	case xds.Disconnected:
		if e.Streams == 0 {
			n.log.Warn("envoy disconnected")
			n.loop.refusals = nil
			n.retryDocuments()
			n.loop.acked = "" // the next one may hold nothing; if it holds all of it, it is Acked again
			n.loop.owes(false, now)
		}
		kick(n.kickSelf)
	case xds.Acked:
		n.loop.acked, n.loop.refusals = e.Version, nil
		if p := n.loop.publication; p != nil && p.version == e.Version {
			n.ran(p)
		}
		n.loop.owes(n.loop.publication != nil && n.loop.publication.version != e.Version, now)
		n.timeline.note(now, Moment{Step: StepAcked, Version: e.Version})
		kick(n.kickSelf)
	case xds.Nacked:
		n.metrics.nack(e.Nack.Type.String())
		n.noteRefusals(e.refusals)
	}
}

// stored: the state file holds this incarnation.
type stored struct{ incarnation uint64 }

func (e stored) apply(n *Node, now time.Time) {
	n.loop.stored = max(n.loop.stored, e.incarnation)
}

// newest replaces what waits in a channel of one.
func newest[T any](c chan T, v T) {
	select {
	case <-c:
	default:
	}
	select {
	case c <- v:
	default:
	}
}
