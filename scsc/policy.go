package scsc

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// MaxPathNodes is the longest explicit path (design §5, Steering).
const MaxPathNodes = 16

// Policy steers one name at one ingress along explicit paths (draft §5(3)).
type Policy struct {
	ID      string // "p-<term>.<generation>/<rule>/<ingress>/<prefix>"
	Rule    string // name of the QoSPolicy that caused it
	Prefix  dmsc.ServicePrefix
	Ingress dmsc.NodeID
	Paths   []Path
	Reason  string // the violated threshold and the measured value, in words
}

func (p Policy) equal(q Policy) bool {
	return p.ID == q.ID && p.Rule == q.Rule && p.Prefix == q.Prefix && p.Ingress == q.Ingress &&
		p.Reason == q.Reason && slices.EqualFunc(p.Paths, q.Paths, Path.equal)
}

// Path is one explicit path and its share.
type Path struct {
	Nodes    []dmsc.NodeID      // ingress first, egress last; 2..MaxPathNodes
	Instance dmsc.ServicePrefix `json:",omitzero"` // at the egress, for a function; else zero
	Weight   uint32             // of 100
}

func (p Path) equal(q Path) bool {
	return p.Instance == q.Instance && p.Weight == q.Weight && slices.Equal(p.Nodes, q.Nodes)
}

// Egress is the last node.
func (p Path) Egress() dmsc.NodeID { return p.Nodes[len(p.Nodes)-1] }

func pathString(nodes []dmsc.NodeID) string {
	var b strings.Builder
	for i, n := range nodes {
		if i > 0 {
			b.WriteByte('>')
		}
		b.WriteString(string(n))
	}
	return b.String()
}

// PolicySet is every policy that concerns one node. Sets are ordered by
// (Term, Generation).
type PolicySet struct {
	Term       uint64 // grows with each start of the SCSC
	Generation uint64 // grows with each different set of a term
	Policies   []Policy
	TTL        time.Duration
}

// State is how far a node has come with a policy.
type State uint8

// The states a node reports.
const (
	Accepted  State = iota + 1 // held; the data plane does not know it yet
	Live                       // the node's Envoy has ACKed what the policy needs
	Suspended                  // the LSDB contradicts the path: plain SPF
	Refused                    // cannot be applied: plain SPF
	Expired                    // the TTL has run out: plain SPF
)

var stateNames = [...]string{"unknown", "accepted", "live", "suspended", "refused", "expired"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", s)
}

// Status is a node's word on one policy of a set it holds.
type Status struct {
	Term, Generation uint64
	PolicyID         string
	State            State
	Reason           string
}

// Plan tells a node how often to report (draft §5(3): regularly and on demand).
type Plan struct {
	Generation uint64
	Interval   time.Duration // while nothing of this node is suspect
	// SuspectInterval applies as soon as Suspects is not empty.
	SuspectInterval time.Duration
	Suspects        []string // neighbour links ("sr-1", "sr-1#1") and local prefixes, sorted
}

// Every is the interval that holds now.
func (p Plan) Every() time.Duration {
	if len(p.Suspects) > 0 {
		return p.SuspectInterval
	}
	return p.Interval
}

func (p Plan) equal(q Plan) bool {
	return p.Interval == q.Interval && p.SuspectInterval == q.SuspectInterval && slices.Equal(p.Suspects, q.Suspects)
}
