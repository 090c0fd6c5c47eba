package node

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/scsc"
)

// picture is what the loop shows to readers after each turn. It is immutable.
type picture struct {
	view      *linkstate.View
	rib       *rib.RIB
	pods      []PodStatus
	policies  []scsc.Status
	dataPlane bool
	spaAway   bool
	published string
	acked     string
}

// Status is what an agent believes, served at /api/v1/status.
type Status struct {
	Node        dmsc.NodeID       `json:"node"`
	Role        string            `json:"role"`
	Incarnation uint64            `json:"incarnation"`
	UptimeSec   float64           `json:"uptime_seconds"`
	Ready       bool              `json:"ready"`
	LSDB        LSDBStatus        `json:"lsdb"`
	Adjacencies []AdjacencyStatus `json:"adjacencies"`
	Pods        []PodStatus       `json:"pods"`
	FIB         []EntryStatus     `json:"fib"`
	Policies    []PolicyStatus    `json:"policies"`
	Envoy       EnvoyStatus       `json:"envoy"`
	SPAAway     bool              `json:"spa_away"`
}

// LSDBStatus sums the link-state database up. Nodes that agree have equal
// digests.
type LSDBStatus struct {
	Records int    `json:"records"`
	Digest  string `json:"digest"`
	Synced  bool   `json:"synced"`
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
}

// PodStatus is where one prefix of a pod stands.
type PodStatus struct {
	Pod    string `json:"pod"`
	Prefix string `json:"prefix"`
	State  string `json:"state"`
	Code   string `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// EntryStatus is one name of the FIB.
type EntryStatus struct {
	Prefix   string        `json:"prefix"`
	Kind     string        `json:"kind"`
	Distance dmsc.Metric   `json:"distance"`
	Egress   []dmsc.NodeID `json:"egress"`
	NextHops []string      `json:"next_hops"`
	Backup   []string      `json:"backup"`
	Local    bool          `json:"local"`
	NoBackup string        `json:"no_backup,omitempty"`
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
	DataPlane bool       `json:"data_plane"`
	Published string     `json:"published"`
	Acked     string     `json:"acked"`
	XDS       *XDSStatus `json:"xds,omitempty"`
}

// seconds until a time, 0 if it is none or past.
func seconds(now, until time.Time) float64 { return max(0, until.Sub(now)).Seconds() }

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
	p := &picture{
		view: view, rib: n.rib, dataPlane: n.loop.dataPlane, spaAway: n.loop.spaAway,
		published: n.loop.published, acked: n.loop.acked, policies: n.loop.reported,
	}
	for _, s := range n.registry.ordered() {
		for _, st := range n.registry.statuses(s.id, n.loop.spaAway) {
			p.pods = append(p.pods, PodStatus{Pod: s.pod, Prefix: st.prefix, State: st.state.String(), Code: st.code, Reason: st.reason})
		}
	}
	n.picture.Store(p)
}

// Status returns what the agent believes now. Safe from any goroutine.
func (n *Node) Status() Status {
	p := n.picture.Load()
	now := time.Now()
	s := Status{
		Node: n.cfg.Node, Role: n.cfg.Role.String(), UptimeSec: now.Sub(n.started).Seconds(), Ready: true,
		Adjacencies: []AdjacencyStatus{}, Pods: []PodStatus{}, FIB: []EntryStatus{}, Policies: []PolicyStatus{},
	}
	for _, c := range n.checks() {
		s.Ready = s.Ready && c.OK
	}
	if p == nil {
		return s
	}
	s.Incarnation, s.SPAAway = p.view.Incarnation, p.spaAway
	s.LSDB = LSDBStatus{Records: p.view.Records.Len(), Digest: digest(p.view.Records), Synced: p.view.Synced}
	s.Pods = append(s.Pods, p.pods...)
	s.Envoy = EnvoyStatus{DataPlane: p.dataPlane, Published: p.published, Acked: p.acked}
	if x, ok := n.envoy.Status(string(n.cfg.Node)); ok {
		s.Envoy.XDS = xdsStatus(x)
	}
	for _, a := range p.view.Adjacencies {
		s.Adjacencies = append(s.Adjacencies, AdjacencyStatus{
			Neighbor: a.Remote, Link: a.ID, State: a.State.String(), Alive: a.Alive, Metric: a.Metric, Class: a.Class.String(),
			Data: a.Data, RTTMicros: a.RTT.Microseconds(), SinceSec: now.Sub(a.Since).Seconds(), Pending: a.Pending, IsObserver: a.Observer,
			DampedSec: seconds(now, a.DampedUntil),
		})
	}
	if p.rib != nil {
		for e := range p.rib.All() {
			s.FIB = append(s.FIB, entryStatus(e))
		}
	}
	for _, st := range p.policies {
		s.Policies = append(s.Policies, PolicyStatus{ID: st.PolicyID, Term: st.Term, Generation: st.Generation, State: st.State.String(), Reason: st.Reason})
	}
	return s
}

func entryStatus(e *rib.Entry) EntryStatus {
	out := EntryStatus{
		Prefix: e.Prefix.String(), Kind: e.Kind.String(), Distance: e.Distance, Egress: some(e.Egress),
		NextHops: []string{}, Backup: []string{}, Local: e.Local, NoBackup: e.NoBackup,
	}
	if e.Group != nil {
		for _, h := range e.Group.Primaries {
			out.NextHops = append(out.NextHops, h.LinkKey.String())
		}
		for _, h := range e.Group.Backup {
			out.Backup = append(out.Backup, h.LinkKey.String())
		}
	}
	return out
}

// digest is equal at nodes with equal LSDBs.
func digest(records linkstate.Records) string {
	h := sha256.New()
	for r := range records.All() {
		fmt.Fprintf(h, "%s %s %t %x\n", r.Key, r.Order, r.Tombstone, r.Body)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// checks are the conditions of readiness.
func (n *Node) checks() []admin.Check {
	p := n.picture.Load()
	if p == nil {
		return []admin.Check{{Name: "loop", Detail: "starting"}}
	}
	return []admin.Check{
		{Name: "lsdb", OK: p.view.Synced, Detail: fmt.Sprintf("%d records, synced with the neighbours: %t", p.view.Records.Len(), p.view.Synced)},
		{Name: "envoy", OK: p.dataPlane, Detail: fmt.Sprintf("our envoy answers out of its FIB: %t", p.dataPlane)},
		{Name: "fib", OK: p.published != "" && p.published == p.acked, Detail: fmt.Sprintf("published %q, acked %q", p.published, p.acked)},
	}
}

// adminConfig is what the health listener serves.
func (n *Node) adminConfig() admin.Config {
	return admin.Config{
		Ready:   n.checks,
		Metrics: n.metrics.registry,
		JSON: map[string]func() any{
			"/api/v1/status": func() any { return n.Status() },
			"/api/v1/lsdb": func() any {
				rows, err := n.rows.list()
				if err != nil {
					return map[string]string{"error": err.Error()}
				}
				return rows
			},
		},
	}
}
