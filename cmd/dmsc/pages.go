package main

import (
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/scsc"
)

// The pages of the scheduling centre below /api/v1: what its tables hold, in
// the form of every JSON of dmsc, lower_snake_case with units in the names.
// Times are RFC 3339 in UTC.

type policyRow struct {
	Ingress  dmsc.NodeID   `json:"ingress"`
	Prefix   string        `json:"prefix"`
	Rule     string        `json:"rule"`
	State    string        `json:"state"` // ok, violated, unknown: the worst way of plain SPF
	Quality  qualityFields `json:"quality"`
	PolicyID string        `json:"policy_id"` // "" while plain SPF is in force
	Path     []dmsc.NodeID `json:"path"`
	Instance string        `json:"instance"` // the chosen one of a function, else ""
	Weight   uint32        `json:"weight"`   // of 100
	Reason   string        `json:"reason"`
	Live     []dmsc.NodeID `json:"live"` // who has reported the policy live
	// Rollout is preparing, waiting, issued, confirmed or halted; "" while plain
	// SPF is in force and wanted. Stopped says why it is halted.
	Rollout string `json:"rollout"`
	Stopped string `json:"stopped"`
}

type qualityFields struct {
	DelayMicros  int64   `json:"delay_us"`
	JitterMicros int64   `json:"jitter_us"`
	Loss         float64 `json:"loss"`
	AvailableBPS *uint64 `json:"available_bps"` // null: nothing on the way has a known capacity
	Uncertain    bool    `json:"uncertain"`     // the capacity of some link is unknown
}

func policyPage(r scsc.Row) policyRow {
	p := policyRow{
		Ingress: r.Ingress, Prefix: r.Prefix.String(), Rule: r.Rule, State: stateNames[r.State],
		Quality: qualityFields{
			DelayMicros: r.Quality.Delay.Microseconds(), JitterMicros: r.Quality.Jitter.Microseconds(),
			Loss: r.Quality.Loss, Uncertain: r.Quality.Uncertain,
		},
		PolicyID: r.PolicyID, Path: list(r.Path.Nodes), Weight: r.Path.Weight, Reason: r.Reason, Live: list(r.Live), Rollout: string(r.Rollout), Stopped: r.Stopped,
	}
	if r.Quality.Available != scsc.Unlimited {
		p.Quality.AvailableBPS = &r.Quality.Available
	}
	if !r.Path.Instance.IsZero() {
		p.Instance = r.Path.Instance.String()
	}
	return p
}

var stateNames = map[string]string{"OK": "ok", "VIOLATED": "violated", "UNKNOWN": "unknown"}

type nodeRow struct {
	Node       dmsc.NodeID `json:"node"`
	Connected  bool        `json:"connected"`
	Reported   *time.Time  `json:"reported"` // arrival of its last telemetry, null for none
	Plan       planFields  `json:"plan"`
	Term       uint64      `json:"term"`
	Generation uint64      `json:"generation"`
	Policies   int         `json:"policies"`
}

type planFields struct {
	Generation            uint64   `json:"generation"`
	IntervalMillis        int64    `json:"interval_ms"`
	SuspectIntervalMillis int64    `json:"suspect_interval_ms"`
	Suspects              []string `json:"suspects"`
}

func nodePage(r scsc.NodeRow) nodeRow {
	return nodeRow{
		Node: r.Node, Connected: r.Connected, Reported: moment(r.Reported),
		Plan: planFields{
			Generation: r.Plan.Generation, IntervalMillis: r.Plan.Interval.Milliseconds(),
			SuspectIntervalMillis: r.Plan.SuspectInterval.Milliseconds(), Suspects: list(r.Plan.Suspects),
		},
		Term: r.Term, Generation: r.Generation, Policies: r.Policies,
	}
}

type linkRow struct {
	Node            dmsc.NodeID `json:"node"`
	Neighbor        dmsc.NodeID `json:"neighbor"`
	Link            dmsc.LinkID `json:"link"`
	Reported        *time.Time  `json:"reported"`
	Probes          uint32      `json:"probes"`
	Lost            uint32      `json:"lost"`
	RTTMinMicros    int64       `json:"rtt_min_us"`
	RTTMedianMicros int64       `json:"rtt_median_us"`
	RTTP95Micros    int64       `json:"rtt_p95_us"`
	JitterMicros    int64       `json:"jitter_us"` // one way
	SentBPS         uint64      `json:"sent_bps"`
	ReceivedBPS     uint64      `json:"received_bps"`
	CapacityBPS     uint64      `json:"capacity_bps"` // 0: unknown
}

func linkPage(r scsc.LinkRow) linkRow {
	return linkRow{
		Node: r.Node, Neighbor: r.Link.Remote, Link: r.Link.ID, Reported: moment(r.Reported), Probes: r.Probes, Lost: r.Lost,
		RTTMinMicros: r.RTTMin.Microseconds(), RTTMedianMicros: r.RTTMedian.Microseconds(), RTTP95Micros: r.RTTP95.Microseconds(),
		JitterMicros: r.Jitter.Microseconds(), SentBPS: r.SentBPS, ReceivedBPS: r.ReceivedBPS, CapacityBPS: r.CapacityBPS,
	}
}

type eventRow struct {
	At     time.Time   `json:"at"`
	Kind   string      `json:"kind"`
	Policy string      `json:"policy"`
	Node   dmsc.NodeID `json:"node"`
	Text   string      `json:"text"`
}

func eventPage(e scsc.Event) eventRow {
	return eventRow{At: e.At.UTC(), Kind: e.Kind, Policy: e.Policy, Node: e.Node, Text: e.Text}
}

// rows serves a table as a page.
func rows[T, P any](table func() ([]T, error), page func(T) P) admin.Page {
	return admin.Whole(func() any {
		in, err := table()
		if err != nil {
			return map[string]string{"error": err.Error()}
		}
		return pages(in, page)
	})
}

// pages converts a list; none is [] and not null.
func pages[T, P any](in []T, page func(T) P) []P {
	out := make([]P, len(in))
	for i, v := range in {
		out[i] = page(v)
	}
	return out
}

// list is in, never null in JSON.
func list[T any](in []T) []T { return append([]T{}, in...) }

// moment is t in UTC, nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}
