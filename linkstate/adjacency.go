package linkstate

import (
	"cmp"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// missedProbes in a row declare a data path dead.
const missedProbes = 3

// adjacency is one link and what we know of its far end.
type adjacency struct {
	LinkConfig
	observer bool // a receive-only session of the far end; not configured
	state    AdjacencyState
	since    time.Time

	touched bool      // by this turn
	sends   bool      // records are pending, as of the last turn
	due     time.Time // see Instance.due; place is that in the heap
	place   int

	// The control session, anew with each stream.
	stream      bool
	session     uint64 // our number of it
	heard       bool   // a hello has come
	threeWay    bool   // the far end has heard ours
	compared    bool   // its first digest has been answered with records
	sentSynced  bool
	heardSynced bool
	differing   int    // digests in a row that differed from ours
	differ      ranges // in these ranges, all of them
	refused     map[Key]stub
	repairAt    time.Time // no repair of differences before, and what is added
	repairGap   time.Duration
	received    uint64 // every LSUpdate up to this one
	ahead       map[uint64]struct{}
	ackDue      bool
	out         outbox
	reduced     bool   // the covers know the link
	covers      Covers // that it belongs to
	keepaliveAt time.Time
	greetAt     time.Time // repeats the handshake until it is done
	greetEvery  time.Duration

	// The far end by its hello; kept while the stream is away.
	peerSession   uint64
	role          dmsc.Role
	data          string
	peerDataPlane bool

	// The data path.
	probed bool // a first result is known
	alive  bool
	misses int
	verify bool // the stream has ended: the next probe decides alone

	answeredBy dmsc.NodeID // see Adjacency
	rtt        time.Duration
	holdEnds   time.Time
	degraded   bool // held, and the topology has changed meanwhile
	resumed    bool // held, because we have restarted and not the far end

	flaps flaps
	delay delayMetric // with AlgorithmDelay

	// What is announced of the link besides its configuration.
	quality SetQuality

	// What the last View says of it. A picture of hundreds of adjacencies is not
	// made anew for each acknowledgement and each round trip time.
	shownRTT     time.Duration
	shownPending int
}

func (a *adjacency) String() string { return a.LinkKey.String() }

// phase is how far the control session has come.
func (a *adjacency) phase() AdjacencyState {
	switch {
	case !a.stream:
		return StateDown
	case !a.threeWay:
		return StateInit
	case !a.sentSynced || !a.heardSynced:
		return StateExchange
	}
	return StateSynced
}

// usable reports whether the data path may be advertised.
func (i *Instance) usable(a *adjacency) bool {
	return a.alive && i.dataPlane && a.peerDataPlane && !a.observer && i.cfg.Role != dmsc.RoleObserver && i.drain != DrainRemoved
}

// advance is the state machine of a link. Its inputs are two facts that events
// change, how far the control session is (phase) and whether the data path may
// be advertised (usable), and the clock; a link that flaps waits at (2), see
// damping.go:
//
//	                      ┌────────────────(1)────────────────┐
//	Down ─(1)─ Init ─(1)─ Exchange ─(1)─ Synced ─(2)─▶ Full ◀─(5)─ Held
//	                                       ▲             │ └──(4)──▶ │
//	                                       └──(3) dead ──┴───────────┘(3, 6)
//
// Full and Held are the advertised states; a link gets into Held only from Full
// or, after a restart of our own, by resumeHeld.
func (i *Instance) advance(a *adjacency) {
	phase, usable := a.phase(), i.usable(a)
	good := phase == StateSynced && usable
	if !good {
		a.flaps.until = time.Time{}
	}
	if a.state >= StateFull {
		i.forgive(a)
	}
	switch {
	case a.state < StateFull && good && !i.damped(a): // (2)
		i.setState(a, StateFull)
	case a.state < StateFull: // (1)
		i.setState(a, phase)
	case !usable: // (3) 3 probes missed, or an Envoy ended
		i.setState(a, phase)
	case phase == StateSynced: // (5) the stream is back, or never went
		i.setState(a, StateFull)
	case a.state == StateFull && a.verify: // the immediate probe will tell (3) from (4)
	case a.state == StateFull: // (4) stream gone, data path alive: graceful restart
		i.hold(a)
	case !i.now.Before(a.holdEnds): // (6)
		i.setState(a, phase)
	}
}

func (i *Instance) hold(a *adjacency) {
	a.holdEnds = i.now.Add(i.cfg.Hold)
	i.setState(a, StateHeld)
}

func (i *Instance) setState(a *adjacency, s AdjacencyState) {
	if a.state == s {
		return
	}
	switch {
	case a.state >= StateFull && s < StateFull:
		i.moved = true
		if i.drain != DrainRemoved {
			i.failed(a)
		}
	case a.state < StateFull && s >= StateFull:
		a.flaps.up, a.flaps.until = i.now, time.Time{}
	}
	if s != StateHeld {
		a.degraded, a.resumed = false, false
	}
	a.state, a.since = s, i.now
	i.touch(a)
	if s == StateSynced && !a.alive {
		i.probe(a)
	}
	i.nodeDirty = true
	i.neighbourChanged()
}

func (i *Instance) neighbourChanged() {
	i.ready.Changed |= ChangedNeighbours
	i.stale = true
}

// degradeHeld makes the held links a last resort once the topology has changed:
// their far ends compute nothing while they restart (RFC 3623 §3.2 gives the
// hold up; we keep the link for those who have no other).
func (i *Instance) degradeHeld() {
	if !i.moved {
		return
	}
	i.moved = false
	for _, a := range i.order {
		if a.state == StateHeld && !a.degraded {
			a.degraded, i.nodeDirty = true, true
		}
	}
}

func (i *Instance) onStreamUp(ev StreamUp) {
	a := i.links[ev.Link]
	switch {
	case a == nil && ev.Observer:
		a = &adjacency{LinkConfig: LinkConfig{LinkKey: ev.Link}, observer: true, since: i.now, peerDataPlane: true, out: newOutbox()}
		i.addLink(a)
	case a == nil || ev.Observer != a.observer:
		i.alarm(AlarmUnexpectedLink, "a control stream came up on the link %s, which is not configured here: closed; configure it on both ends or on neither", ev.Link)
		i.ready.Reset = append(i.ready.Reset, ev.Link)
		return
	}
	if a.stream {
		i.endSession(a)
		i.advance(a)
	}
	i.touch(a)
	a.stream = true
	a.session = i.rand.Uint64() | 1 // never 0, which says "none"
	a.keepaliveAt = i.now.Add(keepalive)
	a.greetEvery = firstResend
	a.greetAt = i.now.Add(a.greetEvery)
	a.verify = false
	if i.firstStream.IsZero() && !a.observer {
		i.firstStream = i.now
	}
	if !a.alive {
		i.probe(a)
	}
	i.sendHello(a)
}

func (i *Instance) onStreamDown(ev StreamDown) {
	a := i.links[ev.Link]
	if a == nil || !a.stream {
		return
	}
	i.endSession(a)
	if a.observer {
		i.dropLink(a)
		return
	}
	a.verify = true
	i.probe(a)
}

// endSession forgets everything that belongs to one control stream.
func (i *Instance) endSession(a *adjacency) {
	a.stream, a.heard, a.threeWay, a.compared, a.sentSynced, a.heardSynced = false, false, false, false, false, false
	a.session, a.peerSession, a.received, a.differing, a.ackDue = 0, 0, 0, 0, false
	a.ahead = make(map[uint64]struct{})
	a.refused = make(map[Key]stub)
	a.out = newOutbox()
	i.touch(a)
}

// reset closes the control stream of a neighbour that is not what it should be.
// There is no graceful hold for it.
func (i *Instance) reset(a *adjacency) {
	i.ready.Reset = append(i.ready.Reset, a.LinkKey)
	i.endSession(a)
	if a.observer {
		i.dropLink(a)
		return
	}
	i.setState(a, StateDown)
}

// onProbed takes in one answer or miss of the data path.
func (i *Instance) onProbed(ev Probed) {
	a := i.links[ev.Link]
	if a == nil || a.observer {
		return // answers to probes of a link that has just been removed
	}
	ok := ev.OK
	switch ev.Peer {
	case a.Remote:
		i.stale = i.stale || a.answeredBy != ""
		a.answeredBy = ""
	case "": // nobody; whoever it was last may be back
		ok = false
	default:
		ok = false
		i.stale = i.stale || a.answeredBy != ev.Peer
		a.answeredBy = ev.Peer
	}
	i.touch(a)
	a.probed = true
	was := a.alive
	switch {
	case ok:
		a.alive, a.misses = true, 0
		if ev.RTT > 0 {
			if a.rtt == 0 {
				a.rtt = ev.RTT
			}
			a.rtt += (ev.RTT - a.rtt) / 8 // RFC 6298 §2.3
			if i.cfg.Algorithm == AlgorithmDelay && a.delay.measured(i.now, ev.RTT) {
				i.nodeDirty = true
			}
		}
	case a.alive:
		// A refusal is no loss on the way. Without an agent that would tell of an
		// Envoy that restarts, it decides alone: the Envoy died after its agent.
		refused := ev.Refused && a.state == StateHeld
		if a.misses++; a.misses >= missedProbes || a.verify || refused {
			a.died()
		}
	}
	a.verify = false
	i.stale = i.stale || a.alive != was || (a.rtt-a.shownRTT).Abs() > a.shownRTT/8
}

// died is the end of a data path: a fresh probe has to prove the next one.
func (a *adjacency) died() {
	a.alive, a.misses = false, 0
	a.delay.interrupted()
}

// onDataPlane tells the neighbours at once; a link needs a fresh probe after it.
func (i *Instance) onDataPlane(ev DataPlane) {
	if ev.Up == i.dataPlane {
		return
	}
	i.dataPlane = ev.Up
	i.touchAll()
	for _, a := range i.order {
		a.died()
		if a.stream {
			i.sendHello(a)
		}
		if ev.Up && !a.observer {
			i.probe(a)
		}
	}
}

// verify has a link probed whose far end advertises it: its probe got through,
// so ours need not wait for its turn. A link that heals or a node that returns
// is of use when both ends advertise it.
func (i *Instance) verify(r *record) {
	n, ok := r.Content.(*NodeLSA)
	if !ok || r.Tombstone || r.Origin == i.cfg.Node {
		return
	}
	for _, l := range n.Links {
		if l.Remote != i.cfg.Node {
			continue
		}
		if a := i.links[LinkKey{Remote: r.Origin, ID: l.ID}]; a != nil && a.stream && !a.alive {
			i.probe(a)
		}
	}
}

// probe asks for a probe besides the regular ones.
func (i *Instance) probe(a *adjacency) {
	if !a.observer && i.cfg.Role != dmsc.RoleObserver {
		i.ready.Probe = append(i.ready.Probe, a.LinkKey)
	}
}

func (i *Instance) addLink(a *adjacency) {
	i.endSession(a)
	a.data = i.cfg.Heard[a.LinkKey]
	i.links[a.LinkKey] = a
	n, _ := slices.BinarySearchFunc(i.order, a.LinkKey, compareLink)
	i.order = slices.Insert(i.order, n, a)
	i.neighbourChanged()
}

func (i *Instance) dropLink(a *adjacency) {
	i.setState(a, StateDown)
	delete(i.links, a.LinkKey)
	i.dues.set(a, time.Time{})
	a.touched = false
	n, _ := slices.BinarySearchFunc(i.order, a.LinkKey, compareLink)
	i.order = slices.Delete(i.order, n, n+1)
	i.neighbourChanged()
}

func compareLink(a *adjacency, k LinkKey) int { return a.LinkKey.Compare(k) }

func (i *Instance) onSetLinks(ev SetLinks) {
	wanted := make(map[LinkKey]LinkConfig, len(ev.Links))
	for _, l := range ev.Links {
		_, twice := wanted[l.LinkKey]
		if why := checkLink(i.cfg.Node, l); why != "" || twice {
			i.alarm(AlarmBadEvent, "link %s %s: the links stay as they were", l.LinkKey, cmp.Or(why, "is configured twice"))
			return
		}
		l.Tags = slices.Clone(l.Tags)
		wanted[l.LinkKey] = l
	}
	for _, a := range slices.Clone(i.order) {
		l, ok := wanted[a.LinkKey]
		switch {
		case ok && a.observer:
			i.reset(a) // it is a neighbour now
		case ok:
			delete(wanted, a.LinkKey)
			changed := a.Fabric != l.Fabric || a.Class != l.Class
			a.LinkConfig = l
			if changed && a.stream {
				i.sendHello(a)
			}
		case !a.observer:
			if a.stream {
				i.ready.Reset = append(i.ready.Reset, a.LinkKey)
				i.endSession(a)
			}
			i.dropLink(a)
		}
	}
	for _, l := range ev.Links {
		if l, ok := wanted[l.LinkKey]; ok {
			i.addLink(&adjacency{LinkConfig: l, since: i.now, peerDataPlane: true, out: newOutbox()})
		}
	}
	i.nodeDirty, i.stale = true, true
}

func checkLink(self dmsc.NodeID, l LinkConfig) string {
	if _, err := dmsc.ParseNodeID(string(l.Remote)); err != nil {
		return err.Error()
	}
	if _, err := dmsc.ParseLinkID(string(l.ID)); err != nil {
		return err.Error()
	}
	switch {
	case l.Remote == self:
		return "leads to this node itself"
	case l.Metric == 0 || l.Metric > dmsc.MaxLinkMetric:
		return "has a metric outside 1..2^24-1"
	}
	return ""
}
