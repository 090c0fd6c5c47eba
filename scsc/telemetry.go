package scsc

import (
	"math"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Telemetry is one report of a node (draft §4.2(5), type 4).
type Telemetry struct {
	Window   time.Duration // the values are measured over
	Links    []LinkReport
	Services []ServiceReport
}

// LinkReport is the quality of one link as one end measures it, through both
// Envoys. Times are round trips, except Jitter.
type LinkReport struct {
	Link                      linkstate.LinkKey
	Probes, Lost              uint32
	RTTMin, RTTMedian, RTTP95 time.Duration
	Jitter                    time.Duration // one way: (p95 - minimum) / 2 of the round trips
	// SentBPS and ReceivedBPS are of the connections this end has opened.
	SentBPS, ReceivedBPS uint64
	CapacityBPS          uint64 // 0 = unknown
}

// ServiceReport is the self-detection of one local target.
type ServiceReport struct {
	Prefix            dmsc.ServicePrefix
	Address           string // host:port
	Healthy           bool
	Delay, Jitter     time.Duration
	InFlight          uint32
	RequestsPerSecond float64
}

// Quality is what is known of a link, a service or a path, one way.
type Quality struct {
	Delay, Jitter time.Duration
	Loss          float64
	// Available is the least available bandwidth in bit/s of what has a known
	// capacity, Unlimited if nothing has.
	Available uint64
	// Uncertain: the capacity of some link is unknown.
	Uncertain bool
}

// Unlimited stands for an available bandwidth that nothing is known to limit.
const Unlimited uint64 = math.MaxUint64

// none is the quality of an empty path.
var none = Quality{Available: Unlimited}

// Then composes two parts of a path. Delays add up; so do jitters, which is the
// safe upper bound; losses are taken as independent.
func (q Quality) Then(r Quality) Quality {
	return Quality{
		Delay:     q.Delay + r.Delay,
		Jitter:    q.Jitter + r.Jitter,
		Loss:      q.Loss + r.Loss - q.Loss*r.Loss, // exact when one part loses nothing
		Available: min(q.Available, r.Available),
		Uncertain: q.Uncertain || r.Uncertain,
	}
}

// reports holds the newest telemetry of every node.
type reports map[dmsc.NodeID]*report

type report struct {
	at       time.Time // arrival
	links    map[linkstate.LinkKey]LinkReport
	services map[dmsc.ServicePrefix][]ServiceReport
}

func (rs reports) add(now time.Time, node dmsc.NodeID, t Telemetry) {
	r := &report{
		at:       now,
		links:    make(map[linkstate.LinkKey]LinkReport, len(t.Links)),
		services: make(map[dmsc.ServicePrefix][]ServiceReport, len(t.Services)),
	}
	for _, l := range t.Links {
		r.links[l.Link] = l
	}
	for _, s := range t.Services {
		r.services[s.Prefix] = append(r.services[s.Prefix], s)
	}
	rs[node] = r
}

// link joins what both ends of the link from → key.Remote measure: of two fresh
// reports the worse value counts, since a link is only as good as its worse
// direction and an end that has not yet noticed a fault must not hide it. at is
// the arrival of the newer report; known is false without a fresh report.
//
// Each end counts the connections that its own Envoy has opened, so one direction
// carries what the near end sends there plus what the far end receives there.
// Requests and responses share streams: the busier direction counts.
func (rs reports) link(now time.Time, stale time.Duration, from dmsc.NodeID, key linkstate.LinkKey, capacity uint64) (q Quality, at time.Time, known bool) {
	q = none
	var used [2]uint64 // away from from, and towards it
	for i, end := range [2]struct {
		node dmsc.NodeID
		key  linkstate.LinkKey
	}{{from, key}, {key.Remote, linkstate.LinkKey{Remote: from, ID: key.ID}}} {
		r := rs[end.node]
		if r == nil || now.Sub(r.at) > stale {
			continue
		}
		l, ok := r.links[end.key]
		if !ok || l.Probes == 0 || l.Lost >= l.Probes {
			// Nothing was answered: delay is unknown, and whether the link is
			// dead is the adjacency's business.
			continue
		}
		known = true
		if r.at.After(at) {
			at = r.at
		}
		q.Delay = max(q.Delay, l.RTTMedian/2)
		q.Jitter = max(q.Jitter, l.Jitter)
		q.Loss = max(q.Loss, float64(l.Lost)/float64(l.Probes))
		used[i] += l.SentBPS
		used[1-i] += l.ReceivedBPS
		if capacity == 0 {
			capacity = l.CapacityBPS
		}
	}
	if !known {
		return Quality{Available: Unlimited, Uncertain: true}, time.Time{}, false
	}
	if capacity == 0 {
		q.Uncertain = true
	} else {
		q.Available = capacity - min(capacity, max(used[0], used[1]))
	}
	return q, at, true
}

// service is the self-detection of a prefix at its egress: the slowest healthy
// instance, since Envoy spreads requests over all. A target that never reports
// counts as fast and healthy; known is false when its reports are stale.
func (rs reports) service(now time.Time, stale time.Duration, egress dmsc.NodeID, prefix dmsc.ServicePrefix) (q Quality, healthy, known bool) {
	q = none
	r := rs[egress]
	if r == nil || len(r.services[prefix]) == 0 {
		return q, true, true
	}
	if now.Sub(r.at) > stale {
		return q, true, false
	}
	for _, s := range r.services[prefix] {
		if s.Healthy {
			healthy = true
			q.Delay = max(q.Delay, s.Delay)
			q.Jitter = max(q.Jitter, s.Jitter)
		}
	}
	return q, healthy, true
}
