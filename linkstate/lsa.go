package linkstate

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// Type is the kind of a record. Unknown types are stored and flooded on, and
// otherwise ignored.
type Type uint16

// The record types.
const (
	TypeNode   Type = 1 // NodeLSA: a node and its links
	TypePrefix Type = 2 // PrefixLSA: one of 256 buckets of a node's prefixes
	TypeAuth   Type = 3 // AuthLSA: an authorization (POA) of the SPA
)

// Key identifies a record. All three parts are always compared.
type Key struct {
	Origin   dmsc.NodeID
	Type     Type
	Fragment uint32 // bucket of a PrefixLSA, serial of an AuthLSA, 0 for a NodeLSA
}

// Compare orders keys by origin, type and fragment.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Origin, o.Origin), cmp.Compare(k.Type, o.Type), cmp.Compare(k.Fragment, o.Fragment))
}

func (k Key) String() string {
	switch k.Type {
	case TypeNode:
		return string(k.Origin) + ".node"
	case TypePrefix:
		return fmt.Sprintf("%s.prefix.%d", k.Origin, k.Fragment)
	case TypeAuth:
		return fmt.Sprintf("%s.auth.%d", k.Origin, k.Fragment)
	}
	return fmt.Sprintf("%s.type%d.%d", k.Origin, k.Type, k.Fragment)
}

// ParseKey reads what Key.String writes.
func ParseKey(s string) (Key, error) {
	origin, rest, _ := strings.Cut(s, ".")
	kind, fragment, _ := strings.Cut(rest, ".")
	id, err := dmsc.ParseNodeID(origin)
	k := Key{Origin: id}
	switch number, other := strings.CutPrefix(kind, "type"); {
	case kind == "node":
		k.Type = TypeNode
	case kind == "prefix":
		k.Type = TypePrefix
	case kind == "auth":
		k.Type = TypeAuth
	case other:
		n, _ := strconv.ParseUint(number, 10, 16)
		k.Type = Type(n)
	}
	if n, err := strconv.ParseUint(fragment, 10, 32); err == nil {
		k.Fragment = uint32(n)
	}
	if err != nil || k.String() != s {
		return Key{}, fmt.Errorf("%q is no key of a record, such as sr-1.node or sg-1.prefix.17", s)
	}
	return k, nil
}

// Order is the age of a record: higher is newer. The incarnation grows by one
// with each start of the origin, the sequence with each new version.
type Order struct {
	Incarnation uint64 // below MaxIncarnation
	Seq         uint64
}

// MaxIncarnation is the first incarnation that is refused.
const MaxIncarnation = 1 << 48

// Compare orders by incarnation, then sequence.
func (o Order) Compare(p Order) int {
	return cmp.Or(cmp.Compare(o.Incarnation, p.Incarnation), cmp.Compare(o.Seq, p.Seq))
}

func (o Order) String() string { return fmt.Sprintf("%d.%d", o.Incarnation, o.Seq) }

// LSA is one link-state record. It is immutable: whoever wants to change one
// makes another.
type LSA struct {
	Key
	Order
	// NotAfter is the absolute end of life, set by the origin: of a live record
	// issue + lifetime, of a tombstone issue + maximum lifetime.
	NotAfter time.Time
	// Tombstone marks the withdrawal of the record; Body is then empty.
	Tombstone bool
	// Body is the encoded content exactly as its origin sent it; it is flooded
	// on unchanged.
	Body []byte
	// Content is Body decoded: *NodeLSA, *PrefixLSA or *AuthLSA; nil for a
	// tombstone and for an unknown type.
	Content Content
	// Signature of the origin over the record; empty before signatures are in use.
	Signature []byte
}

// Content is the decoded body of a record: *NodeLSA, *PrefixLSA or *AuthLSA.
type Content interface{ lsaType() Type }

// NodeLSA is a node and its links (draft §4.2(4): interconnectivity topology).
type NodeLSA struct {
	Role    dmsc.Role
	Transit bool // false: passing through costs dmsc.LastResort extra
	// Algorithm names the metric all links use; a node that announces another
	// one than most of its domain is a last resort (package rib).
	Algorithm Algorithm
	// Avoid are the affinity tags, sorted and each once, whose links cost
	// dmsc.LastResort extra (exclude-any of RFC 9350 §6.1, with a last resort in
	// place of exclusion). Part of the algorithm: alike in the whole domain.
	Avoid []string
	Links []Link // sorted by (Remote, ID)
}

// Link is one direction of a link as its near end describes it.
type Link struct {
	Remote    dmsc.NodeID
	ID        dmsc.LinkID
	Metric    dmsc.Metric
	Delay     time.Duration // one way; 0 = unknown
	Jitter    time.Duration
	Loss      float64 // 0..1
	Capacity  uint64  // bit/s; 0 = unknown
	Available uint64  // bit/s; 0 = unknown
	Tags      []string
}

func (l Link) key() LinkKey { return LinkKey{l.Remote, l.ID} }

// hasLink reports whether a link is among those of a NodeLSA.
func hasLink(links []Link, k LinkKey) bool {
	_, found := slices.BinarySearchFunc(links, k, func(l Link, k LinkKey) int { return l.key().Compare(k) })
	return found
}

// PrefixLSA is one bucket of the prefixes a node owns.
type PrefixLSA struct {
	Prefixes []Prefix // sorted by Prefix
}

// Prefix is one announced service prefix at its owner (draft §4.1, type 2).
type Prefix struct {
	Prefix     dmsc.ServicePrefix
	Metric     dmsc.Metric // added to the distance to the owner
	Preference uint32      // higher wins before distance is looked at
	Weight     uint32      // share within equal owners; 0 means 1
	Protocol   dmsc.Protocol
	ReplaySafe bool     // a request may be sent twice
	Attributes []string // "key=value", sorted
	// Authorization is the SHA-256 of the AuthLSA body that allows this
	// announcement; empty in spa.mode sg-only.
	Authorization []byte
}

// AuthLSA is a prefix origin authorization (POA) of the SPA, flooded before the
// prefixes that cite it.
type AuthLSA struct {
	POA []byte
}

func (*NodeLSA) lsaType() Type   { return TypeNode }
func (*PrefixLSA) lsaType() Type { return TypePrefix }
func (*AuthLSA) lsaType() Type   { return TypeAuth }

// Buckets is the number of PrefixLSAs a node's prefixes are spread over.
const Buckets = 256

// Bucket returns the fragment in which p is announced: a stable hash, so that
// adding one service touches one record.
func Bucket(p dmsc.ServicePrefix) uint32 {
	sum := sha256.Sum256([]byte(p.String()))
	return uint32(sum[0])
}
