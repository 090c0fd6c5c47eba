package xds

import (
	"slices"
	"time"
)

// EventKind says what an Event is about.
type EventKind uint8

const (
	// Connected: a client of the node opened a stream and named itself.
	Connected EventKind = iota + 1
	// Disconnected: a stream of the node ended. Event.Streams says how many
	// are left; 0 means that no Envoy of this node is known to be alive.
	Disconnected
	// Acked: the client holds every resource of the set Event.Version, and
	// nothing else. Reported once per stream and set, also for a client that
	// reconnects and needs nothing.
	Acked
	// Nacked: the client refused resources; Event.Nack says which. Of a node
	// with several streams only that which Status is about is heard, and not
	// about what another stream runs; it is, late, when it is the one left.
	Nacked
)

// String is the kind in lower case.
func (k EventKind) String() string {
	return [...]string{"unknown", "connected", "disconnected", "acked", "nacked"}[k]
}

// Event is news of one node's client. Events of one stream arrive in order;
// of different streams in any order. When Acked or Nacked comes, Status knows of
// it.
type Event struct {
	Kind    EventKind
	Node    string
	Stream  uint64 // counts the streams of this server, from 1
	Streams int    // open streams of the node after this event
	Version string // Acked: the set, as Publish returned it
	Nack    *Nack  // Nacked
}

// Nack is a refusal, in Envoy's words.
type Nack struct {
	Type Type
	// Resources are the ones Envoy's message names, or all of the response
	// when it names none. Sorted.
	Resources []string
	Message   string
	// Version is the set that was refused in part.
	Version string
	// Running is the version each of Resources still runs at; a name without
	// an entry does not exist in Envoy.
	Running map[string]string
	When    time.Time
}

// Phase is where a stream stands in publishing the wanted set.
type Phase string

const (
	PhaseUnpublished Phase = "unpublished" // nothing was published yet: nothing is sent
	PhaseClusters    Phase = "clusters"    // clusters and their endpoints are on their way
	PhaseRoutes      Phase = "routes"      // routes and listeners are on their way
	PhaseRemovals    Phase = "removals"    // what the set no longer has is being removed
	PhaseRejected    Phase = "rejected"    // the rest is live; parked versions wait for better ones
	PhaseLive        Phase = "live"        // everything is accepted
)

// TypeStatus compares the versions of one type. Equal versions mean equal
// content.
type TypeStatus struct {
	Wanted string // of the newest published set
	Sent   string // the last set of which everything due was sent
	Acked  string // the last set of which everything was accepted
	// Rejected are the names whose wanted version is parked, sorted.
	Rejected []string
}

// Status is what is known of one node. If it has several streams, that of the
// one which has accepted the most types, the oldest of such; or of all streams
// of one type each together, but of one only for clusters and for listeners.
type Status struct {
	Connected bool
	Streams   int
	Since     time.Time // when the stream opened or, if none is left, ended
	Wanted    string    // version of the set that is served: the published one, unless pinned; "" before the first
	Pinned    *Pinned   // nil unless Rollback pinned an earlier set
	Acked     string    // the last set that was live as a whole
	Phase     Phase
	Converged bool // connected, and Acked == Wanted
	Types     [numTypes]TypeStatus
	LastNack  *Nack // also after it healed; nil if there was none
}

// report is what a stream tells of itself; immutable once stored.
type report struct {
	want     *compiled
	since    time.Time
	acked    string
	phase    Phase
	types    [numTypes]progress
	rejected *[numTypes][]string // nil: nothing is parked
	lastNack *Nack

	// Of a stream of one type: see siblings.go.
	backlogs [numTypes]backlog
	waiting  bool     // perhaps for another one
	asks     []string // sorted names; nil: everything
	lacks    []string // clusters that were refused and do not exist in an older version, sorted
}

// progress is the last catalog of which everything due was sent, and accepted.
type progress struct{ sent, acked *catalog }

func (r *report) typeStatus(t Type) TypeStatus {
	of := r.types[t]
	s := TypeStatus{Wanted: r.want.typed(t).contents(), Sent: of.sent.contents(), Acked: of.acked.contents()}
	if r.rejected != nil {
		s.Rejected = r.rejected[t]
	}
	return s
}

// phases is the order of their reach.
var phases = []Phase{PhaseUnpublished, PhaseClusters, PhaseRoutes, PhaseRejected, PhaseRemovals, PhaseLive}

// accepted counts the types of which a set was accepted.
func (r *report) accepted() (types int) {
	for _, of := range r.types {
		if of.acked != nil {
			types++
		}
	}
	return types
}

// report is the voice's, or that of its siblings taken together, or the last
// one's. It needs n.mu.
func (n *node) report() *report {
	voice := n.voice(allTypes)
	if voice == nil {
		return n.last
	}
	rep := voice.report.Load()
	if voice.serves == allTypes || rep.want == nil {
		return rep
	}
	sum := *rep
	sum.rejected, sum.acked = nil, n.announced
	var rejected [numTypes][]string
	for t, all := range sum.want.types {
		siblings := n.siblings(Type(t))
		if len(siblings) == 0 && len(all.byName) > 0 {
			sum.types[t], sum.phase = progress{}, PhaseClusters // nobody asks for this type
		}
		for i, st := range siblings {
			of := st.report.Load()
			if its := of.types[t]; i == 0 || its.acked != all {
				sum.types[t] = its
			}
			if of.rejected != nil {
				rejected[t] = append(rejected[t], of.rejected[t]...)
				sum.rejected = &rejected
			}
			if slices.Index(phases, of.phase) < slices.Index(phases, sum.phase) {
				sum.phase = of.phase
			}
			if of.lastNack != nil && (sum.lastNack == nil || of.lastNack.When.After(sum.lastNack.When)) {
				sum.lastNack = of.lastNack
			}
		}
		slices.Sort(rejected[t])
	}
	return &sum
}

// Status reports on a node. The second value is false for a node that was
// neither published nor seen.
func (s *Server) Status(name string) (Status, bool) {
	s.mu.Lock()
	n := s.nodes[name]
	s.mu.Unlock()
	if n == nil {
		return Status{}, false
	}
	return n.status(), true
}

func (n *node) status() Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	st := Status{Streams: len(n.streams), Connected: len(n.streams) > 0, Phase: PhaseUnpublished}
	rep := n.report()
	if rep != nil {
		st.Since, st.Acked, st.Phase, st.LastNack = rep.since, rep.acked, rep.phase, rep.lastNack
		for t := range numTypes {
			st.Types[t] = rep.typeStatus(t)
		}
	}
	st.Pinned = n.pinned()
	if n.want != nil {
		st.Wanted = n.want.version
		for t := range st.Types {
			st.Types[t].Wanted = n.want.types[t].version
		}
		if rep == nil || rep.want != n.want {
			st.Phase = PhaseClusters // published, not yet looked at by the stream
		}
		st.Converged = st.Connected && st.Acked == st.Wanted && st.Phase == PhaseLive
	}
	return st
}
