package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/scsc"
)

// picture is what the loop shows to readers after each turn. It is immutable.
type picture struct {
	view        *linkstate.View
	rib         *rib.RIB
	publication *publication // the newest, nil before the first
	running     *publication // the newest that Envoy has ACKed as a whole; nil for none
	unpublished bool         // the newest FIB could not be published
	spfLog      []*computation
	pods        []PodStatus
	faults      []InstanceFault
	policies    []scsc.Status
	dataPlane   bool
	selfSince   time.Time // of dataPlane
	spa, scsc   reach
	policiesEnd time.Time // without a word of the SCSC; zero for none
	acked       string
	unackedFrom time.Time // see loopState
	documents   documents
	outside     outside
	refusals    []RefusalStatus
	alarms      []AlarmStatus
	split       split // of the pods' prefixes, under a pin
}

// Summary is what an agent believes, in short: /api/v1/node.
type Summary struct {
	Node        dmsc.NodeID `json:"node"`
	Role        string      `json:"role"`
	Incarnation uint64      `json:"incarnation"`
	UptimeSec   float64     `json:"uptime_seconds"`
	Ready       bool        `json:"ready"`
	// NotReady says what is missing, by condition.
	NotReady  []string    `json:"not_ready"`
	LSDB      LSDBStatus  `json:"lsdb"`
	FIBStatus FIBStatus   `json:"fib_status"`
	Envoy     EnvoyStatus `json:"envoy"`
	Drain     DrainStatus `json:"drain"`
	// SPAAway: no SPA answers, for so long. New prefixes wait, of an SG.
	SPAAway    bool    `json:"spa_away"`
	SPAAwaySec float64 `json:"spa_away_seconds"`
	// SCSCAway: one is configured and not connected, for so long. The policies that
	// are held end when PoliciesEndSec have passed without a word of it; 0: none are.
	SCSCAway       bool    `json:"scsc_away"`
	SCSCAwaySec    float64 `json:"scsc_away_seconds"`
	PoliciesEndSec float64 `json:"policies_end_seconds"`
	// Documents is nil at a node without any.
	Documents *DocumentsStatus `json:"documents,omitempty"`
	// Outside is nil at a node without a listener for clients outside the mesh.
	Outside *OutsideStatus `json:"outside,omitempty"`
	// LinkCounts are of those to SGs and SRs that are configured.
	LinkCounts LinkCounts `json:"link_counts"`
	// LinkFaults are the first of those that are not full.
	LinkFaults   []LinkFault  `json:"link_faults"`
	PrefixCounts PrefixCounts `json:"prefix_counts"`
	// InstanceFaults are the first of InstanceFaultCount.
	InstanceFaults     []InstanceFault `json:"instance_faults"`
	InstanceFaultCount int             `json:"instance_fault_count"`
	PolicyCounts       PolicyCounts    `json:"policy_counts"`
	// PoliciesRefused are the first of those that this node or its Envoy refuses.
	PoliciesRefused []PolicyStatus `json:"policies_refused"`
	// Refusals are what Envoy has refused and that waits for a better version.
	Refusals []RefusalStatus `json:"refusals"`
	// Alarms are those that stand and the newest others, oldest first.
	Alarms []AlarmStatus `json:"alarms"`
}

// LinkCounts counts links; Full ones are advertised.
type LinkCounts struct {
	Full       int `json:"full"`
	Configured int `json:"configured"`
}

// PrefixCounts counts the prefixes of the pods of a node by where they stand.
type PrefixCounts struct {
	Announced int `json:"announced"`
	Pending   int `json:"pending"`   // for another reason than the next
	Unhealthy int `json:"unhealthy"` // granted, and without a healthy instance of the pod
	Denied    int `json:"denied"`
}

// PolicyCounts counts the policies that a node holds by their state.
type PolicyCounts struct {
	Live      int `json:"live"`
	Accepted  int `json:"accepted"`
	Suspended int `json:"suspended"` // the LSDB contradicts them
	Refused   int `json:"refused"`   // by this node or its Envoy
}

// AlarmStatus is an alarm that was raised.
type AlarmStatus struct {
	At     time.Time `json:"at"`
	AgeSec float64   `json:"age_seconds"`
	Code   string    `json:"code"`
	Text   string    `json:"text"`
	Times  int       `json:"times"` // raised in these words; at and age are of the last
}

// maxAlarms are kept for readers, and those that stand.
const maxAlarms = 8

// noteAlarm counts an alarm and keeps it for readers.
func (n *Node) noteAlarm(code, text string) {
	n.metrics.alarm(code)
	a := AlarmStatus{At: time.Now().UTC(), Code: code, Text: shortened(text, maxWords), Times: 1}
	all := slices.DeleteFunc(slices.Clone(n.loop.alarms), func(b AlarmStatus) bool {
		same := a.Code == b.Code && a.Text == b.Text
		if same {
			a.Times += b.Times
		}
		return same
	})
	all = append(all, a)
	for len(all) > maxAlarms {
		passed := slices.IndexFunc(all, func(b AlarmStatus) bool { return n.loop.standing[b.Code] == "" })
		if passed < 0 {
			break
		}
		all = slices.Delete(all, passed, passed+1)
	}
	n.loop.alarms = all
}

// Status is all of it, but for the LSDB: /api/v1/status.
type Status struct {
	Summary
	Adjacencies []AdjacencyStatus `json:"adjacencies"`
	Pods        []PodStatus       `json:"pods"`
	FIB         []EntryStatus     `json:"fib"` // as computed
	Policies    []PolicyStatus    `json:"policies"`
}

// LSDBStatus sums the link-state database up. Nodes that agree have equal
// digests.
type LSDBStatus struct {
	Records int    `json:"records"`
	Digest  string `json:"digest"`
	Synced  bool   `json:"synced"`
	// Flooding is full, full in doubt, or reduced: new records take the links of
	// two covers.
	Flooding string `json:"flooding"`
}

// AdjacencyStatus is the state of one link.
type AdjacencyStatus struct {
	Neighbor   dmsc.NodeID `json:"neighbor"`
	Link       dmsc.LinkID `json:"link"`
	State      string      `json:"state"`
	Alive      bool        `json:"alive"`
	Metric     dmsc.Metric `json:"metric"`
	Class      string      `json:"class"`
	Data       string      `json:"data"`
	RTTMicros  int64       `json:"rtt_us"`
	SinceSec   float64     `json:"since_seconds"`
	Pending    int         `json:"pending"`
	DampedSec  float64     `json:"damped_seconds"` // until a link that flaps returns; 0: nothing holds it back
	IsObserver bool        `json:"observer"`
	// Flooding: new records take this link. In a dense network they take the
	// links of two covers only.
	Flooding bool `json:"flooding"`
}

// PodStatus is where one prefix of a pod stands.
type PodStatus struct {
	Pod    string `json:"pod"`
	Prefix string `json:"prefix"`
	State  string `json:"state"`
	Code   string `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// PolicyStatus is where one policy of the SCSC stands at this node.
type PolicyStatus struct {
	ID         string `json:"id"`
	Term       uint64 `json:"term"`
	Generation uint64 `json:"generation"`
	State      string `json:"state"`
	Reason     string `json:"reason,omitempty"`
}

// EnvoyStatus is what is known of the Envoy beside the agent.
type EnvoyStatus struct {
	// DataPlane: it answers out of its FIB, or does not, for so long.
	DataPlane    bool    `json:"data_plane"`
	DataPlaneSec float64 `json:"data_plane_seconds"`
	Published    string  `json:"published"`
	Acked        string  `json:"acked"`
	// UnackedSec is for how long it has been connected and accepted nothing of what
	// was published; 0 if it has accepted all of it.
	UnackedSec float64    `json:"unacked_seconds"`
	XDS        *XDSStatus `json:"xds,omitempty"`
}

// seconds until a time, 0 if it is none or past.
func seconds(now, until time.Time) float64 { return max(0, until.Sub(now)).Seconds() }

// elapsed is the seconds since a time, 0 if it is none.
func elapsed(since, now time.Time) float64 {
	if since.IsZero() {
		return 0
	}
	return now.Sub(since).Seconds()
}

// reach is whether an SPA or the SCSC, if there is to be one, is there.
type reach struct {
	away  bool
	since time.Time
}

// turn notes that it has gone or come back.
func (r *reach) turn(away bool, now time.Time) {
	if r.away != away || r.since.IsZero() {
		*r = reach{away, now}
	}
}

func (r reach) status(now time.Time) (away bool, sec float64) {
	if r.away {
		sec = elapsed(r.since, now)
	}
	return r.away, sec
}

// show publishes what readers see.
func (n *Node) show(rd linkstate.Ready, now time.Time) {
	view := n.instance.View()
	if err := n.rows.update(view, rd.Records); err != nil {
		n.log.Error("lsdb rows are not published", "err", err)
	}
	n.metrics.records.Set(float64(view.Records.Len()))
	if n.rib != nil {
		n.metrics.entries.Set(float64(n.rib.Len()))
	}
	if last := n.picture.Load(); last == nil || last.view != view {
		n.showAdjacencies(view)
		n.noteLinks(view)
	}
	n.picture.Store(&picture{
		view: view, rib: n.rib, publication: n.loop.publication, running: n.loop.running, unpublished: n.loop.unpublished,
		spfLog: n.loop.spfLog, dataPlane: n.loop.dataPlane, selfSince: n.loop.selfSince, acked: n.loop.acked, unackedFrom: n.loop.unackedFrom,
		spa: n.loop.spa, scsc: n.loop.scsc, policiesEnd: n.overlay.Until(),
		documents: n.loop.documents, outside: n.loop.outside,
		policies: n.loop.reported, pods: n.loop.pods, faults: n.loop.instanceFaults, refusals: n.loop.refusals, alarms: n.loop.alarms, split: n.loop.split,
	})
	for _, shown := range n.loop.drainShown {
		close(shown)
	}
	n.loop.drainShown = nil
}

// showAdjacencies counts the links by state and logs what has become of them.
func (n *Node) showAdjacencies(view *linkstate.View) {
	var adjacencies [linkstate.StateHeld + 1]int
	for _, a := range view.Adjacencies {
		adjacencies[a.State]++
		if last := n.loop.shown[a.LinkKey]; last != a.State {
			n.loop.shown[a.LinkKey] = a.State
			n.log.Info("adjacency", "neighbor", string(a.Remote), "link", string(a.ID), "state", a.State.String(), "was", last.String())
		}
	}
	for s, count := range adjacencies { // each at once: a scrape may come in between
		n.metrics.adjacency.WithLabelValues(linkstate.AdjacencyState(s).String()).Set(float64(count))
	}
}

// summary is what the agent believes now, in short. Safe from any
// goroutine.
func (n *Node) summary() Summary {
	now := time.Now()
	s := Summary{Node: n.cfg.Node, Role: n.cfg.Role.String(), UptimeSec: now.Sub(n.started).Seconds(), Ready: true, NotReady: []string{}}
	for _, c := range n.checks() {
		if !c.OK {
			s.Ready, s.NotReady = false, append(s.NotReady, c.Name+": "+c.Detail)
		}
	}
	p := n.picture.Load()
	if p == nil {
		p = &picture{view: &linkstate.View{}, documents: documents{inForce: &border.Set{}}}
	}
	s.Documents, s.Outside = n.documentsStatus(p.documents), n.outsideStatus(p.outside)
	s.Incarnation = p.view.Incarnation
	s.SPAAway, s.SPAAwaySec = p.spa.status(now)
	s.SCSCAway, s.SCSCAwaySec = p.scsc.status(now)
	s.PoliciesEndSec = seconds(now, p.policiesEnd)
	s.LSDB = LSDBStatus{Records: p.view.Records.Len(), Digest: fmt.Sprintf("%016x", p.view.Digest), Synced: p.view.Synced, Flooding: p.view.Flooding.String()}
	s.FIBStatus, s.Drain = p.fibStatus(now), p.drain()
	s.Envoy = EnvoyStatus{
		DataPlane: p.dataPlane, DataPlaneSec: elapsed(p.selfSince, now), Published: p.published(), Acked: p.acked,
	}
	if x, ok := n.envoy.Status(string(n.cfg.Node)); ok {
		s.Envoy.XDS = xdsStatus(x, p.split, now)
		s.Refusals = parked(p.refusals, x, now)
		if x.Connected && !x.Converged {
			s.Envoy.UnackedSec = elapsed(p.unackedFrom, now)
		}
	}
	s.Refusals, s.Alarms = some(s.Refusals), some(slices.Clone(p.alarms))
	for i, a := range s.Alarms {
		s.Alarms[i].AgeSec = now.Sub(a.At).Seconds()
	}
	s.PoliciesRefused = []PolicyStatus{}
	for _, st := range p.policies {
		if st.State == scsc.Refused && len(s.PoliciesRefused) < maxAlarms {
			s.PoliciesRefused = append(s.PoliciesRefused, policyStatus(st))
		}
	}
	s.LinkCounts, s.PrefixCounts, s.PolicyCounts = p.count()
	s.LinkFaults = linkFaults(p.view, p.dataPlane, now)
	s.InstanceFaults, s.InstanceFaultCount = some(slices.Clone(p.faults[:min(len(p.faults), maxNames)])), len(p.faults)
	for i, f := range s.InstanceFaults {
		s.InstanceFaults[i].SinceSec = elapsed(f.Since, now)
	}
	return s
}

func policyStatus(st scsc.Status) PolicyStatus {
	return PolicyStatus{ID: st.PolicyID, Term: st.Term, Generation: st.Generation, State: st.State.String(), Reason: st.Reason}
}

func (p *picture) count() (links LinkCounts, prefixes PrefixCounts, policies PolicyCounts) {
	for _, a := range p.view.Adjacencies {
		switch {
		case a.Observer:
		case a.Advertised():
			links.Full++
			fallthrough
		default:
			links.Configured++
		}
	}
	for _, pod := range p.pods {
		switch {
		case pod.State == announced.String():
			prefixes.Announced++
		case pod.State == denied.String():
			prefixes.Denied++
		case pod.Code == codeUnhealthy:
			prefixes.Unhealthy++
		default:
			prefixes.Pending++
		}
	}
	for _, st := range p.policies {
		switch st.State {
		case scsc.Live:
			policies.Live++
		case scsc.Suspended:
			policies.Suspended++
		case scsc.Refused:
			policies.Refused++
		default:
			policies.Accepted++
		}
	}
	return links, prefixes, policies
}

// Status returns all that the agent believes now, but for the LSDB. Safe from
// any goroutine.
func (n *Node) Status() Status {
	s := Status{Summary: n.summary(), Adjacencies: []AdjacencyStatus{}, Pods: []PodStatus{}, FIB: []EntryStatus{}, Policies: []PolicyStatus{}}
	p := n.picture.Load()
	if p == nil {
		return s
	}
	s.Adjacencies = p.adjacencies(time.Now())
	s.Pods = append(s.Pods, p.pods...)
	for e := range entries(p.rib) {
		s.FIB = append(s.FIB, StatusOf(e))
	}
	for _, st := range p.policies {
		s.Policies = append(s.Policies, policyStatus(st))
	}
	return s
}

func (p *picture) adjacencies(now time.Time) []AdjacencyStatus {
	out := []AdjacencyStatus{}
	for _, a := range p.view.Adjacencies {
		out = append(out, AdjacencyStatus{
			Neighbor: a.Remote, Link: a.ID, State: a.State.String(), Alive: a.Alive, Metric: a.Metric, Class: a.Class.String(),
			Data: a.Data, RTTMicros: a.RTT.Microseconds(), SinceSec: now.Sub(a.Since).Seconds(), Pending: a.Pending, IsObserver: a.Observer,
			DampedSec: seconds(now, a.DampedUntil),
			Flooding:  floods(p.view, a),
		})
	}
	return out
}

// floods reports whether new records take a link.
func floods(v *linkstate.View, a linkstate.Adjacency) bool {
	switch a.State {
	case linkstate.StateExchange, linkstate.StateSynced:
		return true
	case linkstate.StateFull:
		return v.Flooding != linkstate.FloodingReduced || a.Covers != 0
	}
	return false
}

// checks are the conditions of readiness.
func (n *Node) checks() []admin.Check {
	p := n.picture.Load()
	if p == nil {
		return []admin.Check{{Name: "loop", Detail: "starting"}}
	}
	fib := admin.Check{Name: "fib", OK: p.current(), Detail: fmt.Sprintf("published %q, acked %q", p.published(), p.acked)}
	if st, _ := n.envoy.Status(string(n.cfg.Node)); st.Pinned != nil { // what it is asked to run, it runs
		fib = admin.Check{Name: "fib", OK: st.Converged, Detail: fmt.Sprintf("pinned to %q, acked %q", st.Pinned.Version, st.Acked)}
	}
	return []admin.Check{
		{Name: "lsdb", OK: p.view.Synced, Detail: fmt.Sprintf("%d records, synced with the neighbours: %t", p.view.Records.Len(), p.view.Synced)},
		{Name: "envoy", OK: p.dataPlane, Detail: fmt.Sprintf("our envoy answers out of its FIB: %t", p.dataPlane)},
		fib,
	}
}
