package node

import (
	"bytes"
	"iter"
	"net/url"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// Bounds of the log of computations.
const (
	spfLogLength = 128
	maxCauses    = 8 // per computation; the others are counted
)

// computation is one walk from a change of the LSDB to Envoy. The loop fills it
// in and then leaves it alone; readers put it into words.
type computation struct {
	began     time.Time
	waited    time.Duration // since the first change it answers
	coalesced int           // turns of the loop with changes that it answers beside the first
	causes    []cause
	omitted   int // causes
	first     bool
	run       rib.Run

	compute, translate, publish time.Duration // translate and publish are 0 when nothing was published
	version                     string        // published, "" for none
	failed                      bool
}

// cause is one record, or one adjacency, before and after.
type cause struct {
	was, is *linkstate.LSA // nil for none
	link    linkstate.LinkKey
	states  [2]linkstate.AdjacencyState
}

// causesOf finds what differs between the last view that was computed and the
// one that is computed now. It looks no further than it may list.
func causesOf(was, is *linkstate.View, touched []linkstate.Key) (out []cause, omitted int) {
	if was == nil {
		return nil, 0
	}
	for _, a := range is.Adjacencies {
		i := slices.IndexFunc(was.Adjacencies, func(o linkstate.Adjacency) bool { return o.LinkKey == a.LinkKey })
		state := linkstate.StateDown
		if i >= 0 {
			state = was.Adjacencies[i].State
		}
		if state != a.State && len(out) < maxCauses {
			out = append(out, cause{link: a.LinkKey, states: [2]linkstate.AdjacencyState{state, a.State}})
		}
	}
	touched = slices.Clone(touched)
	slices.SortFunc(touched, linkstate.Key.Compare)
	for _, k := range slices.Compact(touched) {
		if len(out) >= maxCauses {
			omitted++
			continue
		}
		c := cause{was: was.Records.Get(k), is: is.Records.Get(k)}
		if c.was != nil && c.is != nil && c.was.Tombstone == c.is.Tombstone && bytes.Equal(c.was.Body, c.is.Body) {
			continue // refreshed
		}
		out = append(out, c)
	}
	return out, omitted
}

// appended is log with c, as a list of its own: readers hold the old one.
func appended(log []*computation, c *computation) []*computation {
	if len(log) >= spfLogLength {
		log = log[len(log)-spfLogLength+1:]
	}
	return append(slices.Clone(log), c)
}

// Computation is an item of /api/v1/spf-log, the newest first: why routes were
// computed, what came of it, and how long each step took (wall clock).
type Computation struct {
	At              time.Time `json:"at"`
	AgeSec          float64   `json:"age_seconds"`
	Kind            string    `json:"kind"` // first, full, incremental, prefixes or none
	Causes          []Cause   `json:"causes"`
	CausesOmitted   int       `json:"causes_omitted"`
	Nodes           int       `json:"nodes"`     // whose shortest path was computed anew
	Entries         int       `json:"entries"`   // that came, went or changed
	Coalesced       int       `json:"coalesced"` // further changes that it answered
	WaitedMicros    int64     `json:"waited_us"` // from the first change on, for the computation before it
	ComputeMicros   int64     `json:"compute_us"`
	TranslateMicros int64     `json:"translate_us"`
	PublishMicros   int64     `json:"publish_us"`
	Version         string    `json:"version"` // published, "" for none
	Failed          bool      `json:"failed"`  // not published: Envoy keeps the last good one
}

// Cause is one change behind a computation.
type Cause struct {
	Record string   `json:"record"` // "" for an adjacency
	Link   string   `json:"link"`   // "" for a record
	What   []string `json:"what"`
}

func (c *computation) page(now time.Time) Computation {
	out := Computation{
		At: c.began.UTC(), AgeSec: now.Sub(c.began).Seconds(), Kind: c.run.Kind.String(), Causes: []Cause{}, CausesOmitted: c.omitted,
		Nodes: c.run.Nodes, Entries: c.run.Entries, Coalesced: c.coalesced, WaitedMicros: c.waited.Microseconds(),
		ComputeMicros: c.compute.Microseconds(), TranslateMicros: c.translate.Microseconds(), PublishMicros: c.publish.Microseconds(),
		Version: c.version, Failed: c.failed,
	}
	if c.first {
		out.Kind = "first"
	}
	for _, cause := range c.causes {
		out.Causes = append(out.Causes, cause.page(now))
	}
	return out
}

func (c cause) page(now time.Time) Cause {
	if c.was == nil && c.is == nil {
		return Cause{Link: c.link.String(), What: []string{c.states[0].String() + " → " + c.states[1].String()}}
	}
	of := func(l *linkstate.LSA) (*Record, string) {
		if l == nil {
			return nil, ""
		}
		r := record(l, now, true)
		return &r, r.Key
	}
	was, key := of(c.was)
	is, now2 := of(c.is)
	if now2 != "" {
		key = now2
	}
	return Cause{Record: key, What: some(Difference(was, is))}
}

func (n *Node) spfLogPage(q url.Values) (any, error) {
	now := time.Now()
	return n.list(q, func(p *picture) iter.Seq[any] {
		return func(yield func(any) bool) {
			for _, c := range slices.Backward(p.spfLog) {
				if !yield(c.page(now)) {
					return
				}
			}
		}
	})
}
