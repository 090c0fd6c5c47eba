package linkstate

import (
	"cmp"
	"fmt"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// LinkKey names one link as its near end sees it.
type LinkKey struct {
	Remote dmsc.NodeID
	ID     dmsc.LinkID
}

// Compare orders links by neighbour, then id.
func (k LinkKey) Compare(o LinkKey) int {
	return cmp.Or(cmp.Compare(k.Remote, o.Remote), cmp.Compare(k.ID, o.ID))
}

func (k LinkKey) String() string {
	if k.ID == "0" {
		return string(k.Remote)
	}
	return fmt.Sprintf("%s#%s", k.Remote, k.ID)
}

// Event is what can happen to an Instance.
type Event interface{ isEvent() }

type (
	// StreamUp: the control stream of a link is connected. Observer marks a
	// receive-only session (the SCSC), which needs no configured link.
	StreamUp struct {
		Link     LinkKey
		Observer bool
	}
	// StreamDown: the control stream of a link has ended.
	StreamDown struct{ Link LinkKey }
	// Received: a message arrived on the control stream of a link.
	Received struct {
		Link    LinkKey
		Message Message
	}
	// Probed: a data-path probe through the Envoys has an answer or none.
	Probed struct {
		Link LinkKey
		// OK: the far Envoy answered out of its FIB.
		OK bool
		// Peer is who answered, "" for nobody. Another than the neighbour is never OK.
		Peer dmsc.NodeID
		// RTT is how long it took; 0 if that says nothing of the link, because a
		// connection had to be set up first.
		RTT time.Duration
		// Refused: not OK, and not for want of an answer. The own Envoy says that
		// the far one refuses or resets connections.
		Refused bool
	}
	// DataPlane: our own Envoy serves a FIB (Up), or has ended.
	DataPlane struct{ Up bool }
	// SetLinks replaces the configured links; those no longer named go down.
	SetLinks struct{ Links []LinkConfig }
	// SetPrefixes replaces the set of prefixes this node announces.
	SetPrefixes struct{ Prefixes []Prefix }
	// SetAuthorizations replaces the authorizations this node floods, by serial.
	// Give those that new prefixes cite before the prefixes, or in the same turn.
	SetAuthorizations struct{ Authorizations map[uint32]*AuthLSA }
	// SetQuality updates the measured values announced for a link.
	SetQuality struct {
		Link                LinkKey
		Delay, Jitter       time.Duration
		Loss                float64
		Capacity, Available uint64
	}
	// SetDrain takes the node out of service, or back into it. View.Drained says
	// when every neighbour has acknowledged it; then allow some seconds for the
	// rest of the domain and for requests in flight before the next step.
	SetDrain struct{ Level Drain }
)

func (StreamUp) isEvent()          {}
func (StreamDown) isEvent()        {}
func (Received) isEvent()          {}
func (Probed) isEvent()            {}
func (DataPlane) isEvent()         {}
func (SetLinks) isEvent()          {}
func (SetPrefixes) isEvent()       {}
func (SetAuthorizations) isEvent() {}
func (SetQuality) isEvent()        {}
func (SetDrain) isEvent()          {}

// Message is what two neighbours say to each other (draft §4.1, type 2).
type Message interface{ isMessage() }

// Hello introduces the sender and is repeated as the keepalive.
type Hello struct {
	Domain    string
	Node      dmsc.NodeID
	Role      dmsc.Role
	Link      dmsc.LinkID
	Algorithm Algorithm
	// Session is the sender's number of this control session; Seen echoes the
	// last Session heard from the receiver (3-way handshake), 0 for none.
	Session, Seen uint64
	// Incarnation is the sender's own; Held is the highest incarnation of the
	// receiver that the sender has in its LSDB, 0 for none.
	Incarnation, Held uint64
	// Fabric is the data address (IP:port) of the sender's Envoy on this link, ""
	// while it has none.
	Fabric string
	// DataPlane is false when the sender's own Envoy has ended.
	DataPlane bool
	// Class is the sender's link class.
	Class dmsc.LinkClass
}

// LSUpdate carries records. Seq counts the sender's updates of this session
// from 1.
type LSUpdate struct {
	Seq     uint64
	Records []*LSA
}

// LSAck acknowledges every LSUpdate of this session up to and including Seq.
type LSAck struct{ Seq uint64 }

// Digest summarises the sender's LSDB as keyed sums over ranges of records, so
// that two neighbours find their differences without sending everything.
type Digest struct {
	Sums []uint64 // one per range; the ranges are the same everywhere
	// Synced is set on the digest that follows the last record of the database
	// exchange.
	Synced bool
}

func (*Hello) isMessage()    {}
func (*LSUpdate) isMessage() {}
func (*LSAck) isMessage()    {}
func (*Digest) isMessage()   {}

// LinkConfig is one configured link.
type LinkConfig struct {
	LinkKey
	// Metric is 1..dmsc.MaxLinkMetric; in an Adjacency what is announced now.
	// With AlgorithmDelay it stands in, in steps of 0.5 ms, until the link has
	// been measured.
	Metric   dmsc.Metric
	Class    dmsc.LinkClass
	Capacity uint64 // bit/s; 0 = unknown
	Tags     []string
	// Fabric is our data address to announce on this link (IP:port).
	Fabric string
}

// Config configures an Instance.
type Config struct {
	Node      dmsc.NodeID
	Domain    string
	Role      dmsc.Role
	Transit   bool // an SG's is usually false: last resort
	Algorithm Algorithm
	// Avoid are the affinity tags of links that are a last resort, in any order.
	Avoid []string
	// Incarnation of this start, from the state file; the Instance raises it
	// when neighbours hold a higher one.
	Incarnation uint64
	// Heard are the data addresses of neighbours as their hellos gave them in the
	// last life, from the state file. Each stands until a hello says otherwise: a
	// link that a restart resumes is no use without it.
	Heard map[LinkKey]string
	// Encode turns content into a record's body. It must be deterministic.
	Encode func(Content) []byte
	// Seed makes jitter and session numbers reproducible.
	Seed uint64
	// Lifetime of a record; 0 = 1 h. Refreshed at half ± 25 %.
	Lifetime time.Duration
	// Lease for which own old records met after a restart are adopted before
	// they are tombstoned; 0 = 30 s.
	Lease time.Duration
	// Hold is the longest graceful-restart hold; 0 = 60 s.
	Hold time.Duration
	// MaxRecords is how many records the database takes in, of which each KiB
	// counts as one; 0 = DefaultMaxRecords.
	MaxRecords int
	// StartUp is the longest last-resort phase after the start; 0 = 500 ms.
	StartUp time.Duration
}

// Change says what of the LSDB has changed, that is, what to compute anew.
type Change uint8

// The kinds of change; they combine.
const (
	ChangedPrefixes   Change = 1 << iota // no SPF needed
	ChangedTopology                      // nodes or links
	ChangedNeighbours                    // state or address of an own adjacency
)

// Envelope is a message for the control stream of a link.
type Envelope struct {
	Link    LinkKey
	Message Message
}

// Ready is what an Instance wants done. It did nothing itself.
type Ready struct {
	// Messages to send, in order per link. They may be sent at once: nothing
	// else has to happen first, except that Incarnation is on disk.
	Messages []Envelope
	// Probe names links to probe at once, besides the regular interval.
	Probe []LinkKey
	// Reset names links whose control stream is to be closed and dialled anew.
	Reset []LinkKey
	// Changed tells the caller to recompute from View; it comes after Messages
	// (flood first, compute after). Good news of a far link, and nothing else,
	// comes 20 ms late.
	Changed Change
	// Records that were installed, replaced or removed, and thus all that Changed
	// is about. Good news that waits is named when it is told.
	Records []Key
	// Incarnation is set (non-zero) when it was raised and must be persisted
	// before Messages are sent.
	Incarnation uint64
	// Alarms for the operator.
	Alarms []Alarm
}

// Alarm is something an operator should know: a stable code and a sentence.
type Alarm struct {
	Code string // snake_case, bounded set; see the Alarm constants
	Text string
}

// AdjacencyState is how far a link has come.
type AdjacencyState uint8

// The states of an adjacency, in order.
const (
	StateDown     AdjacencyState = iota // no control stream
	StateInit                           // stream up, not yet heard by the other
	StateExchange                       // 3-way; databases are being exchanged
	StateSynced                         // exchanged, data path not proved yet
	StateFull                           // advertised
	StateHeld                           // advertised; control stream gone, data path alive
)

func (s AdjacencyState) String() string {
	return [...]string{"down", "init", "exchange", "synced", "full", "held"}[s]
}

// Adjacency is the view of one link.
type Adjacency struct {
	LinkConfig
	State    AdjacencyState
	Observer bool
	Role     dmsc.Role // of the neighbour, once heard
	// Data is the neighbour's data address on this link ("" until heard).
	Data string
	// Alive: the data path answered its last probes.
	Alive bool
	// AnsweredBy is who answered the last probe that had an answer, if it was not
	// the neighbour: another node, or this one. The neighbour's Data is wrong then.
	AnsweredBy dmsc.NodeID
	// Resumed: held because this node has restarted, as far as is known not
	// the neighbour.
	Resumed bool
	RTT     time.Duration // smoothed; 0 = none yet
	Since   time.Time     // of State
	// Flapping: it has failed more than twice within about a minute, and has not
	// been good for a minute since.
	Flapping bool
	// DampedUntil is when a link that flaps is advertised again, if it is good
	// until then; zero: nothing holds it back.
	DampedUntil time.Time
	// Pending are records waiting to be sent or acknowledged. While there are
	// some on several links, the number may be as old as a keepalive.
	Pending int
	// Covers that the link belongs to. While View.Flooding is FloodingReduced, a
	// synchronized link that belongs to none carries no new records.
	Covers Covers
}

// Advertised reports whether the link is in our NodeLSA.
func (a Adjacency) Advertised() bool { return a.State == StateFull || a.State == StateHeld }

// View is an immutable picture of an Instance for readers and for computation.
type View struct {
	Node        dmsc.NodeID
	Role        dmsc.Role
	Incarnation uint64
	// Synced: the start-up phase is over; what is computed from Records is
	// complete as far as the neighbours know.
	Synced bool
	// Drain is the level set last; Drained: it is not DrainNone, and every
	// neighbour has acknowledged it.
	Drain       Drain
	Drained     bool
	Records     Records     // tombstones included
	Digest      uint64      // equal at nodes that hold the same records
	Adjacencies []Adjacency // sorted by (Remote, ID); observers included
	Flooding    Flooding    // whether records take all links
}
