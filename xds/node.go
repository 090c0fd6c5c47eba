package xds

import (
	"slices"
	"sync"
	"time"
)

// logSize is how many publishes a stream may fall behind before it compares
// whole sets instead of reading the log.
const logSize = 64

// node holds what is published to one node.Id, and its streams.
type node struct {
	name       string
	keep       bool       // was published to; guarded by Server.mu
	publishing sync.Mutex // one Publish, Rollback or Resume at a time; taken before mu

	mu         sync.Mutex // held for moments only, never while sending
	want       *compiled  // what is served; nil before the first Publish
	newest     *compiled  // what was published last; want, unless pinned
	history    []*past    // oldest first
	pin        *pin       // nil: not pinned
	generation uint64     // counts the sets, from 1
	log        []logEntry // the newest logSize changes, oldest first
	streams    []*stream  // oldest first
	last       *report    // of the voice that ended last

	// Of streams of one type each: see siblings.go.
	warming   map[string]uint64 // endpoints whose cluster was sent since they were accepted, counted
	warmed    uint64            // so far
	announced string            // version of the last set that they ran together
}

// logEntry is what changed between generation-1 and generation.
type logEntry struct {
	generation uint64
	changes    []change
}

// step is the way from one set to another. Either may be nil.
type step struct {
	from, to *compiled
	changes  []change
	summary  *[numTypes]Changes // on its own: it outlives the sets
	others   bool               // something else than endpoints changes
	replaced int                // encoded bytes of from that to has not
}

// step compares two sets, once for all nodes that take the same step.
func (s *Server) step(from, to *compiled) *step {
	s.stepping.Lock()
	defer s.stepping.Unlock()
	if s.last == nil || s.last.from != from || s.last.to != to {
		s.last = &step{from: from, to: to, changes: diff(from, to)}
		s.last.sumUp()
	}
	return s.last
}

// serve takes the streams a step further. It needs n.publishing, under which
// alone want and newest change.
func (n *node) serve(next *step) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.want != nil && len(next.changes) == 0 {
		return
	}
	n.want = next.to
	n.generation++
	if len(n.log) == logSize {
		n.log = append(n.log[:0], n.log[1:]...)
	}
	n.log = append(n.log, logEntry{n.generation, next.changes})
	for _, st := range n.streams {
		st.poke()
	}
}

// since returns the wanted set, its generation, and what changed after
// generation; complete is false if the log does not reach back that far.
func (n *node) since(generation uint64) (want *compiled, now uint64, changes []change, complete bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if generation == n.generation {
		return n.want, n.generation, nil, true
	}
	for _, e := range n.log {
		switch {
		case e.generation <= generation:
		case changes == nil:
			changes = e.changes[:len(e.changes):len(e.changes)] // shared: most streams are one behind
		default:
			changes = append(changes, e.changes...)
		}
	}
	complete = generation > 0 && n.log[0].generation <= generation+1
	return n.want, n.generation, changes, complete
}

// join adds a stream. If there are most already, the one that has accepted the
// least, the oldest of such, is gone for it; never the voice.
func (n *node) join(st *stream, most int) (streams int, gone *stream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if voice := n.voice(allTypes); len(n.streams) >= most {
		for _, other := range n.streams {
			if other != voice && (gone == nil || other.report.Load().accepted() < gone.report.Load().accepted()) {
				gone = other
			}
		}
		if gone == nil {
			gone = voice // there is place for one only
		}
		n.take(gone)
	}
	n.streams = append(n.streams, st)
	if st.serves == only(Clusters) {
		n.announced = "" // Envoy opens it first, and has one
	}
	return len(n.streams), gone
}

// drop takes a stream off that is about to end.
func (n *node) drop(st *stream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.take(st)
}

// take is drop, and needs n.mu.
func (n *node) take(st *stream) {
	n.streams = slices.DeleteFunc(slices.Clone(n.streams), func(other *stream) bool { return other == st })
}

func (n *node) leave(st *stream, now time.Time) (streams int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.voice(st.serves) == st {
		rep := *n.report()
		rep.since = now
		n.last = &rep
	}
	for i, other := range n.streams {
		if other == st {
			n.streams = append(n.streams[:i:i], n.streams[i+1:]...)
			break
		}
	}
	for _, other := range n.streams {
		other.poke() // it may be the voice now
	}
	return len(n.streams)
}

// voice is the stream that speaks for the node in any of the types: the one
// that has accepted the most of them, and of such the oldest, so that whoever
// comes later under the same node.id and accepts nothing is not taken for the
// Envoy that runs. Nil without streams. It needs n.mu.
func (n *node) voice(types [numTypes]bool) (voice *stream) {
	most := -1
	for _, st := range n.streams {
		if accepted := st.report.Load().accepted(); st.servesAny(types) && accepted > most {
			voice, most = st, accepted
		}
	}
	return voice
}

// heeds reports whether a refusal is the node's: it comes from the voice of its
// type, and no other stream runs what it refuses. In doubt it is not: the agent
// would take out of force what Envoy may be running.
func (n *node) heeds(st *stream, r refusal) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := r.nack.Type
	heard := n.voice(only(t)) == st || slices.Contains(n.siblings(t), st)
	return heard && !slices.ContainsFunc(n.streams, func(other *stream) bool {
		runs := other.report.Load().types[t].acked
		return other != st && slices.ContainsFunc(r.versions, func(v *resource) bool {
			had := runs.get(v.name)
			return had != nil && had.version == v.version && other.serves[t] && other.gives(v.name)
		})
	})
}

func (n *node) all() []*stream {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.streams)
}

func (n *node) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.streams)
}
