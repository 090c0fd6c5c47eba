package node

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/measure"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/scsc"
	"github.com/dmsc-mesh/dmsc/translator"
)

// loopState is what the loop remembers between two turns, beside the parts
// that own a subject (instance, registry, overlay, RIB).
type loopState struct {
	incarnation, stored uint64 // the one in use, the one on disk
	held                []linkstate.Envelope
	restored            map[string][]dmsc.ServicePrefix
	neighbors           []savedNeighbor      // as last handed to the state file
	listeners           map[uint64]*listener // open announcement streams
	spa, scsc           reach
	dirty               bool // what the state file keeps has changed since the last turn

	dataPlane, dataPlaneKnown bool
	selfSince                 time.Time // of dataPlane
	selfSilent                int
	unackedFrom               time.Time // Envoy has accepted nothing since, of what was published; zero: it has all
	stallAt                   time.Time // see watchStall; zero: nothing is due
	offered                   *offer    // as last handed to Envoy
	answered                  answered
	pods                      []PodStatus // where the prefixes stand, for readers
	instanceFaults            []InstanceFault
	unverified                bool // policies came or went since the LSDB was asked about them
	steering                  []translator.Steering
	refused                   map[string]string // policies that cannot be applied, and why
	suspended                 map[string]string // those of them that Envoy has refused, see suspend
	refusals                  []RefusalStatus   // by Envoy, oldest first; readers hold it, so it is replaced and not changed
	alarms                    []AlarmStatus     // the newest, as refusals
	standing                  map[string]string // those of them that hold until they are cleared, by code
	begunPublishing           bool
	publication               *publication // the newest, nil before the first
	running                   *publication // the newest that Envoy has ACKed as a whole
	acked                     string       // version
	unpublished               bool         // Envoy runs the last good set, not what follows from the state of now
	toldAt                    time.Time    // heard, of told
	told                      bool         // see allTold
	publishAt                 time.Time    // give Envoy what there is, synced or not
	withheld                  bool         // our Envoy was silent: see withholds
	documents                 documents
	outside                   outside

	pending  linkstate.Change // changes that wait for their computation
	touched  []linkstate.Key  // and the records they are in
	since    time.Time        // of the first of them
	turns    int              // that brought them
	heard    time.Time        // when the last one came
	computed *linkstate.View  // what the RIB follows from
	run      *computation     // of this turn, nil for none
	spfLog   []*computation   // oldest first; readers hold it, so it is replaced and not changed
	restless time.Time        // computing again before this would starve everything else
	paid     time.Time        // when all computations so far will have been paid for, see spend
	retired  []retiredGroup   // sorted by until
	groupsOf *rib.RIB         // whose groups have been looked at

	lostPin    string            // why the pin of the last agent is not in force, "" if it is
	pin        *pin              // what Envoy is pinned to, nil for nothing
	split      split             // what is announced under it
	drain      linkstate.Drain   // what the operator asked for last
	closed     bool              // to clients, see clients.go
	drainShown []chan<- struct{} // who waits to see either

	plan       scsc.Plan
	nextReport time.Time
	shown      map[linkstate.LinkKey]linkstate.AdjacencyState // as logged last
	qualities  map[linkstate.LinkKey]*quality
	rates      map[linkstate.LinkKey]measure.Rate
	reported   []scsc.Status  // of policies, as last told to the SCSC
	policySet  scsc.PolicySet // the newest one, for the state file
}

// listener is an open announcement stream and what it was told last.
type listener struct {
	statuses chan []prefixStatus
	answered bool
	told     []prefixStatus
}

// settle is the walk of a datum: what pods announced and neighbours flooded
// becomes records, routes, and in the end Envoy's configuration. Each step
// does nothing when nothing changed for it.
func (n *Node) settle(now time.Time) {
	n.advertise(now)            // granted announcements → PrefixLSAs
	ready := n.instance.Ready() // what the protocol wants done
	n.noteChange(now, ready.Changed)
	n.flood(ready)        // records → neighbours, before anything is computed
	n.collect(ready, now) // changes → the next computation
	n.publishHealth(now)  // dead next hops → Envoy
	if !now.Before(n.loop.restless) {
		first := n.loop.computed == nil
		change := n.compute(now)                  // LSDB → SPF → RIB
		changed := n.steer(change) || change != 0 // policies of the SCSC → overlay
		changed = n.retire(now) || changed        // groups that went out of use
		// The first computation is no storm, and a large one: the neighbours'
		// answer to our first records must not wait for the fivefold of it.
		if n.publish(changed, now) && !first { // FIB → Envoy
			n.loop.spend(now, time.Since(now))
		}
	}
	n.logRun()         // why that was, and how long it took
	n.answer(now)      // where prefixes and policies stand → pods, SCSC
	n.show(ready, now) // views for readers
}

// A change is carried out at once, and so is what follows it: a dead node is
// told of in as many records as it had neighbours. A storm of changes takes a
// sixth of the time, in batches (design §4, ADR 0009): a computation is paid
// for by five times its cost of rest, of which computeAhead may be owed. (On a
// busy machine a computation may seem to cost ten times what it does, by the
// clock; to wait for the fivefold of that delayed the second record by 60 ms.)
const (
	computeShare = 5
	computeAhead = 500 * time.Millisecond
)

// spend books a computation that began at now and cost this much.
func (l *loopState) spend(now time.Time, cost time.Duration) {
	if l.paid.Before(now) {
		l.paid = now
	}
	l.paid = l.paid.Add((1 + computeShare) * cost)
	l.restless = l.paid.Add(-computeAhead)
}

// advertise hands the link-state instance what this node announces now.
func (n *Node) advertise(now time.Time) {
	o, last := n.registry.offer(now), n.loop.split
	if o == last.of && n.loop.pin == last.under {
		return
	}
	n.loop.split = n.loop.pin.split(o)
	if last.of == nil || !reflect.DeepEqual(n.loop.split.announced, last.announced) {
		n.instance.Step(now, linkstate.SetPrefixes{Prefixes: slices.Clone(n.loop.split.announced)})
	}
	n.noteWithheld()
}

// flood carries out what the protocol wants. Messages wait while a raised
// incarnation is not on disk: a second start with the same one would lose
// against its own old records. A disk that refuses the write does not silence
// the node: its neighbours would tell the next start how high it has been.
func (n *Node) flood(rd linkstate.Ready) {
	if rd.Incarnation > n.loop.incarnation {
		n.loop.incarnation = rd.Incarnation
		n.loop.dirty = true
	}
	n.loop.held = append(n.loop.held, rd.Messages...)
	if n.loop.stored >= n.loop.incarnation && len(n.loop.held) > 0 {
		n.peers.Send(n.loop.held)
		n.loop.held = nil
	}
	n.metrics.sent(rd.Messages)
	n.peers.Reset(rd.Reset)
	for _, link := range rd.Probe {
		n.prober.ProbeNow(link)
	}
	for _, a := range rd.Alarms {
		n.noteAlarm(a.Code, a.Text)
		n.log.Warn("alarm", "code", a.Code, "err", a.Text)
	}
}

// collect notes what changed until it is computed, or is on disk.
func (n *Node) collect(rd linkstate.Ready, now time.Time) {
	l := &n.loop
	l.touched = append(l.touched, rd.Records...)
	if rd.Changed != 0 {
		l.heard = now
		if l.pending == 0 {
			l.since, l.turns = now, 0
		}
		l.pending |= rd.Changed
		l.turns++
	}
	if rd.Changed&linkstate.ChangedNeighbours != 0 {
		if now := neighborsOf(n.instance.View()); !slices.Equal(now, l.neighbors) {
			l.neighbors, l.dirty = now, true
		}
	}
}

// compute brings the RIB up to the LSDB and returns what had changed there. It
// waits for a complete one, as publish does: a large database comes in hundreds
// of turns.
func (n *Node) compute(now time.Time) linkstate.Change {
	l, view := &n.loop, n.instance.View()
	if l.computed == nil && !view.Synced && now.Before(n.started.Add(publishLimit)) {
		l.touched = nil // the first computation reads everything
		return 0
	}
	change := l.pending
	if change != 0 {
		l.run = &computation{began: now, waited: now.Sub(l.since), coalesced: l.turns - 1, first: l.computed == nil}
		l.run.causes, l.run.omitted = causesOf(l.computed, view, l.touched)
		begun := time.Now()
		last := n.rib
		if n.rib, _ = n.engine.Update(view, change, l.touched); n.rib != last {
			n.timeline.note(time.Now(), Moment{Step: StepComputed})
		}
		l.run.compute, l.run.run, l.computed = time.Since(begun), n.engine.LastRun(), view
	}
	l.pending, l.touched = 0, nil // records without a change were refreshed only
	return change
}

// logRun keeps the computation of this turn for readers.
func (n *Node) logRun() {
	if run := n.loop.run; run != nil {
		n.loop.run = nil
		n.loop.spfLog = appended(n.loop.spfLog, run)
		n.metrics.computed(run)
	}
}

// retirement is how long the cluster of a group that went out of use stays in
// Envoy: longer than any request is retried, and than most links flap. What went
// out of use before a restart of the agent, xds keeps (KeepInherited).
const retirement = 5 * time.Second

type retiredGroup struct {
	*rib.Group
	until time.Time
}

// retire keeps the groups that went out of use for a while: requests that were
// sent by them are retried by them. It reports whether one's time is up.
func (n *Node) retire(now time.Time) bool {
	if n.rib == nil {
		return false
	}
	if last := n.loop.groupsOf; last != n.rib {
		// What was computed before the first publication, Envoy has never had.
		if last != nil && n.loop.begunPublishing {
			for _, g := range last.Groups {
				n.loop.retired = append(n.loop.retired, retiredGroup{g, now.Add(retirement)})
			}
		}
		n.loop.retired = slices.DeleteFunc(n.loop.retired, func(r retiredGroup) bool { return inUse(n.rib, r.Group) })
		n.loop.groupsOf = n.rib
	}
	before := len(n.loop.retired)
	n.keepPinned(now)
	n.loop.retired = slices.DeleteFunc(n.loop.retired, func(r retiredGroup) bool { return !now.Before(r.until) })
	return len(n.loop.retired) != before
}

// keepPinned retires the groups that the configuration Envoy is pinned to routes
// to, and keeps those: it has the health of its next hops from the newest.
func (n *Node) keepPinned(now time.Time) {
	if n.loop.pin == nil {
		return
	}
	for _, g := range n.loop.pin.groups {
		if inUse(n.rib, g) {
			continue
		}
		kept := retiredGroup{g, now.Add(retirement)}
		i := slices.IndexFunc(n.loop.retired, func(r retiredGroup) bool { return r.Name == g.Name })
		if i >= 0 {
			n.loop.retired = slices.Delete(n.loop.retired, i, i+1)
		}
		n.loop.retired = append(n.loop.retired, kept) // sorted by until
	}
}

func inUse(r *rib.RIB, g *rib.Group) bool {
	_, ok := slices.BinarySearchFunc(r.Groups, g.Name, func(g *rib.Group, name string) int { return cmp.Compare(g.Name, name) })
	return ok
}

// retiredGroups are the retired ones as the translator wants them.
func (n *Node) retiredGroups() []*rib.Group {
	var out []*rib.Group
	for _, r := range n.loop.retired {
		out = append(out, r.Group)
	}
	slices.SortFunc(out, func(a, b *rib.Group) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// steer brings the policy overlay up to the LSDB. It reports whether the
// ingress is steered differently because of it.
func (n *Node) steer(ch linkstate.Change) bool {
	if !n.loop.unverified && ch&(linkstate.ChangedTopology|linkstate.ChangedPrefixes) == 0 {
		return false
	}
	n.loop.unverified = false
	n.overlay.Verify(n.instance.View(), n.cfg.Node)
	var steering []translator.Steering
	n.loop.refused = map[string]string{}
	for _, p := range n.overlay.Active() {
		s := translator.Steering{Prefix: p.Prefix, PolicyID: p.ID}
		for _, path := range p.Paths {
			s.Paths = append(s.Paths, translator.WeightedPath{Nodes: path.Nodes, Instance: path.Instance, Weight: path.Weight})
		}
		// One policy that makes no sense must not keep the rest of the FIB back.
		if why, bad := n.loop.suspended[p.ID]; bad {
			n.loop.refused[p.ID] = why
			continue
		}
		if err := s.Validate(n.cfg.Node); err != nil {
			n.loop.refused[p.ID] = err.Error()
			continue
		}
		if last := len(steering) - 1; last >= 0 && steering[last].Prefix == p.Prefix {
			n.loop.refused[p.ID] = "policy " + steering[last].PolicyID + " steers the same name"
			continue
		}
		steering = append(steering, s)
	}
	if reflect.DeepEqual(steering, n.loop.steering) {
		return false
	}
	n.loop.steering = steering
	return true
}

// answered is what the last answers to pods followed from.
type answered struct {
	offer   *offer
	spaAway bool
	under   *pin
}

// answerPods tells pods where their prefixes stand, if it is not as they were
// told, and readers.
func (n *Node) answerPods(now time.Time) {
	n.loop.pods, n.loop.instanceFaults = nil, n.registry.instanceFaults(now)
	for _, s := range n.registry.ordered() {
		statuses := n.registry.statuses(s.id, n.loop.spa.away, now)
		n.loop.split.tell(statuses)
		for _, st := range statuses {
			n.loop.pods = append(n.loop.pods, PodStatus{Pod: s.pod, Prefix: st.prefix, State: st.state.String(), Code: st.code, Reason: st.reason})
		}
		if l := n.loop.listeners[s.id]; l != nil && (!l.answered || !slices.Equal(statuses, l.told)) {
			l.answered, l.told = true, statuses
			newest(l.statuses, statuses)
		}
	}
}

// answer tells pods where their prefixes stand, and the SCSC where its
// policies stand and what was measured.
func (n *Node) answer(now time.Time) {
	if a := (answered{n.registry.offer(now), n.loop.spa.away, n.loop.pin}); a != n.loop.answered {
		n.loop.answered = a
		n.answerPods(now)
	}
	if n.loop.dirty {
		n.loop.dirty = false
		incarnation := n.loop.incarnation
		s := n.registry.snapshot(incarnation)
		s.Policies, s.PoliciesUntil, s.Drain = n.loop.policySet, n.overlay.Until(), n.loop.drain
		s.Neighbors, s.Pin, s.Documents = n.loop.neighbors, n.loop.pin.saved(), n.loop.documents.good
		s.stored = func() { n.deliver(stored{incarnation}) }
		n.state.save(s)
	}
	statuses := n.policyStatuses()
	for _, st := range statuses {
		if n.scsc != nil && !slices.Contains(n.loop.reported, st) {
			n.scsc.ReportStatus(st)
		}
	}
	n.loop.reported = statuses
}

// tick lets the parts do what is due.
func (n *Node) tick(now time.Time) {
	n.instance.Tick(now)
	n.watchStall(now)
	for _, p := range n.overlay.Tick(now) {
		n.loop.unverified = true
		n.log.Warn("policy has expired; plain SPF is in force", "policy", p.ID, "prefix", p.Prefix.String())
		if set := n.loop.policySet; n.scsc != nil { // it hears when it is back
			n.scsc.ReportStatus(scsc.Status{Term: set.Term, Generation: set.Generation, PolicyID: p.ID, State: scsc.Expired})
		}
	}
	for _, pod := range n.registry.tick(now) {
		n.authenticate(pod, n.registry.claims(pod))
		n.log.Info("lease has run out", "pod", pod)
	}
	if !n.loop.nextReport.IsZero() && !now.Before(n.loop.nextReport) {
		n.loop.nextReport = now.Add(n.loop.plan.Every())
		n.report(now)
	}
}

// authenticate has the SPA asked for a pod's claims; none releases the pod.
func (n *Node) authenticate(pod string, claims []dmsc.ServicePrefix) {
	n.loop.dirty = true
	if len(claims) == 0 {
		n.spa.Release(pod)
		return
	}
	prefixes := make([]string, len(claims))
	for i, p := range claims {
		prefixes[i] = p.String()
	}
	n.spa.Claim(pod, prefixes, n.registry.token(pod))
}

// begin starts what follows from the configuration and the state file.
func (n *Node) begin(now time.Time) {
	n.loop.listeners = map[uint64]*listener{}
	n.loop.shown = map[linkstate.LinkKey]linkstate.AdjacencyState{}
	n.loop.qualities = map[linkstate.LinkKey]*quality{}
	n.loop.stored = n.loop.incarnation
	if n.loop.drain != linkstate.DrainNone {
		n.log.Warn("the node starts drained; dmsc undrain ends it", "level", n.loop.drain.String())
		n.instance.Step(now, linkstate.SetDrain{Level: n.loop.drain})
	}
	if p := n.loop.pin; p != nil {
		n.log.Warn("envoy is still pinned to an earlier configuration; dmsc xds resume ends it", "version", p.version, "reason", p.reason)
	}
	if lost := n.loop.lostPin; lost != "" {
		n.noteAlarm("pin_lost", lost)
		n.log.Error("alarm", "code", "pin_lost", "err", lost)
		n.loop.dirty = true
	}
	n.judgeDocuments()
	n.judgeOutside(now)
	n.instance.Step(now, linkstate.SetLinks{Links: n.links()})
	for _, pod := range slices.Sorted(maps.Keys(n.loop.restored)) {
		n.authenticate(pod, n.loop.restored[pod])
	}
	n.loop.restored = nil
}
