package node

import (
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"net/url"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Record is one record of the LSDB: an item of /api/v1/lsdb.
type Record struct {
	Key        string      `json:"key"`
	Origin     dmsc.NodeID `json:"origin"`
	Order      string      `json:"order"` // "incarnation.seq", higher is newer
	NotAfter   time.Time   `json:"not_after"`
	ExpiresSec float64     `json:"expires_seconds"` // by the agent's clock
	Tombstone  bool        `json:"tombstone"`
	Bytes      int         `json:"bytes"`
	BodySHA256 string      `json:"body_sha256"`       // in hex
	Content    *Content    `json:"content,omitempty"` // none of a tombstone and of what is not understood
}

// Content is what a record says: one of the three.
type Content struct {
	*NodeContent
	*PrefixContent
	*AuthContent
}

// NodeContent is a node and its links.
type NodeContent struct {
	Role      dmsc.Role           `json:"role"`
	Transit   bool                `json:"transit"` // false: a last resort
	Algorithm linkstate.Algorithm `json:"algorithm"`
	AvoidTags []string            `json:"avoid_tags"`
	Links     []LinkContent       `json:"links"`
}

// LinkContent is one direction of a link.
type LinkContent struct {
	Neighbor     dmsc.NodeID `json:"neighbor"`
	Link         dmsc.LinkID `json:"link"`
	Metric       dmsc.Metric `json:"metric"`
	DelayMicros  int64       `json:"delay_us"`
	JitterMicros int64       `json:"jitter_us"`
	Loss         float64     `json:"loss"`
	CapacityBPS  uint64      `json:"capacity_bps"`  // 0: unknown
	AvailableBPS uint64      `json:"available_bps"` // 0: unknown
	Tags         []string    `json:"tags"`
}

// PrefixContent is one bucket of a node's prefixes.
type PrefixContent struct {
	Prefixes []Announced `json:"prefixes"`
}

// Announced is a prefix at its owner.
type Announced struct {
	Prefix        string      `json:"prefix"`
	Metric        dmsc.Metric `json:"metric"`
	Preference    uint32      `json:"preference"`
	Weight        uint32      `json:"weight"`
	Protocol      string      `json:"protocol"`
	ReplaySafe    bool        `json:"replay_safe"`
	Attributes    []string    `json:"attributes"`
	Authorization string      `json:"authorization"` // SHA-256 in hex, "" for none
}

// AuthContent is an authorization of the SPA.
type AuthContent struct {
	POA string `json:"poa"` // in hex
}

// record is the page of l; readers make it, not the loop.
func record(l *linkstate.LSA, now time.Time, content bool) Record {
	sum := sha256.Sum256(l.Body)
	r := Record{
		Key: l.Key.String(), Origin: l.Origin, Order: l.Order.String(), NotAfter: l.NotAfter.UTC(), ExpiresSec: l.NotAfter.Sub(now).Round(time.Millisecond).Seconds(),
		Tombstone: l.Tombstone, Bytes: len(l.Body), BodySHA256: hex.EncodeToString(sum[:]),
	}
	if content {
		r.Content = contentOf(l.Content)
	}
	return r
}

func contentOf(c linkstate.Content) *Content {
	switch c := c.(type) {
	case *linkstate.NodeLSA:
		out := &NodeContent{Role: c.Role, Transit: c.Transit, Algorithm: c.Algorithm, AvoidTags: some(c.Avoid), Links: []LinkContent{}}
		for _, l := range c.Links {
			out.Links = append(out.Links, LinkContent{
				Neighbor: l.Remote, Link: l.ID, Metric: l.Metric, DelayMicros: l.Delay.Microseconds(), JitterMicros: l.Jitter.Microseconds(),
				Loss: l.Loss, CapacityBPS: l.Capacity, AvailableBPS: l.Available, Tags: some(l.Tags),
			})
		}
		return &Content{NodeContent: out}
	case *linkstate.PrefixLSA:
		out := &PrefixContent{Prefixes: []Announced{}}
		for _, p := range c.Prefixes {
			out.Prefixes = append(out.Prefixes, Announced{
				Prefix: p.Prefix.String(), Metric: p.Metric, Preference: p.Preference, Weight: p.Weight, Protocol: p.Protocol.String(),
				ReplaySafe: p.ReplaySafe, Attributes: some(p.Attributes), Authorization: hex.EncodeToString(p.Authorization),
			})
		}
		return &Content{PrefixContent: out}
	case *linkstate.AuthLSA:
		return &Content{AuthContent: &AuthContent{POA: hex.EncodeToString(c.POA)}}
	}
	return nil
}

// lsdbPage serves the records: all, or those of ?origin=, or those with ?key=
// (may be repeated). ?after=KEY leaves out what comes up to a key, ?limit=N what
// comes after N records, ?content=false what they say.
func (n *Node) lsdbPage(q url.Values) (any, error) {
	if err := admin.Known(q, "origin", "key", "after", "limit", "content"); err != nil {
		return nil, err
	}
	var keys []linkstate.Key
	for _, s := range q["key"] {
		k, err := linkstate.ParseKey(s)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	var after linkstate.Key
	if s := q.Get("after"); s != "" {
		var err error
		if after, err = linkstate.ParseKey(s); err != nil {
			return nil, err
		}
	}
	limit, err := limitOf(q)
	if err != nil {
		return nil, err
	}
	var records iter.Seq[*linkstate.LSA]
	switch origin := q.Get("origin"); {
	case len(keys) > 0:
		records = n.rows.get(keys)
	case origin != "":
		id, err := dmsc.ParseNodeID(origin)
		if err != nil {
			return nil, err
		}
		records = n.rows.of(id)
	default:
		records = n.rows.all(after)
	}
	content := q.Get("content") != "false"
	now := time.Now()
	return first(limit, func(yield func(any) bool) {
		for l := range records {
			if l.Key.Compare(after) > 0 && !yield(record(l, now, content)) {
				return
			}
		}
	}), nil
}
