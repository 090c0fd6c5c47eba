package node

import (
	"sync"
	"time"

	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Moment is one step of the walk of a datum, and when it was done. The time is
// the wall clock's, so that the moments of nodes on one machine compare.
type Moment struct {
	UnixNano int64    `json:"unix_ns"`
	Step     Step     `json:"step"`
	Link     string   `json:"link,omitempty"`    // of stream_* and probe_*
	Changed  []string `json:"changed,omitempty"` // of changed: topology, prefixes, neighbours
	Version  string   `json:"version,omitempty"` // of published and acked
}

// Step names what was done at a Moment.
type Step string

// The steps, in the order in which a failure goes through them.
const (
	StepStarted    Step = "started"     // the process, before anything else
	StepStreamUp   Step = "stream_up"   // of a control session
	StepStreamDown Step = "stream_down" //
	StepProbeUp    Step = "probe_up"    // the first answer after none
	StepProbeDown  Step = "probe_down"  // the first miss after an answer
	StepChanged    Step = "changed"     // the LSDB, or the state of an adjacency
	StepComputed   Step = "computed"    // a RIB that differs from the last one
	StepPublished  Step = "published"   // the set that follows from the RIB
	StepAcked      Step = "acked"       // by Envoy, as a whole
)

// timelineSize is how many moments are remembered: a few failures' worth.
const timelineSize = 512

// timeline remembers the last moments. The loop writes, anybody reads.
type timeline struct {
	mu      sync.Mutex
	moments [timelineSize]Moment
	next    int // moments ever noted
}

func (t *timeline) note(at time.Time, m Moment) {
	m.UnixNano = at.UnixNano()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moments[t.next%timelineSize] = m
	t.next++
}

// list returns the moments, oldest first.
func (t *timeline) list() []Moment {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Moment, 0, timelineSize)
	for i := max(0, t.next-timelineSize); i < t.next; i++ {
		out = append(out, t.moments[i%timelineSize])
	}
	return out
}

// noteProbe notes a change of what probes say, not each of them, and reports
// whether it is one.
func (n *Node) noteProbe(now time.Time, e probed) (changed bool) {
	q := n.quality(e.Link)
	if q.noted && q.answered == e.OK {
		return false
	}
	q.noted, q.answered = true, e.OK
	step := StepProbeDown
	if e.OK {
		step = StepProbeUp
	}
	n.timeline.note(now, Moment{Step: step, Link: e.Link.String()})
	return true
}

// noteStream notes that a control session came or went.
func (n *Node) noteStream(now time.Time, ev linkstate.Event) {
	switch ev := ev.(type) {
	case linkstate.StreamUp:
		n.timeline.note(now, Moment{Step: StepStreamUp, Link: ev.Link.String()})
	case linkstate.StreamDown:
		n.timeline.note(now, Moment{Step: StepStreamDown, Link: ev.Link.String()})
	}
}

func (n *Node) noteChange(now time.Time, c linkstate.Change) {
	if c == 0 {
		return
	}
	m := Moment{Step: StepChanged}
	for _, k := range []struct {
		change linkstate.Change
		name   string
	}{{linkstate.ChangedTopology, "topology"}, {linkstate.ChangedPrefixes, "prefixes"}, {linkstate.ChangedNeighbours, "neighbours"}} {
		if c&k.change != 0 {
			m.Changed = append(m.Changed, k.name)
		}
	}
	n.timeline.note(now, m)
}
