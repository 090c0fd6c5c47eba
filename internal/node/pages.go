package node

import (
	"encoding/hex"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/xds"
)

// What the pages of the health listener show of other packages' values:
// lower_snake_case, units in the names, lists never null.

// XDSStatus is how far the Envoy beside the agent has come, by its xDS stream.
type XDSStatus struct {
	Connected bool            `json:"connected"`
	Streams   int             `json:"streams"`
	Since     time.Time       `json:"since,omitzero"` // opening of the stream or, if none is left, its end
	Phase     xds.Phase       `json:"phase"`
	Converged bool            `json:"converged"`
	Types     []XDSTypeStatus `json:"types"`
	LastNack  *NackStatus     `json:"last_nack,omitempty"` // also after it healed
}

// XDSTypeStatus compares the versions of one resource type.
type XDSTypeStatus struct {
	Type     string   `json:"type"`
	Wanted   string   `json:"wanted"`
	Sent     string   `json:"sent"`
	Acked    string   `json:"acked"`
	Rejected []string `json:"rejected"`
}

// NackStatus is a refusal, in Envoy's words.
type NackStatus struct {
	Type      string    `json:"type"`
	Resources []string  `json:"resources"`
	Message   string    `json:"message"`
	Version   string    `json:"version"`
	When      time.Time `json:"when"`
}

func xdsStatus(s xds.Status) *XDSStatus {
	out := &XDSStatus{Connected: s.Connected, Streams: s.Streams, Since: s.Since.UTC(), Phase: s.Phase, Converged: s.Converged}
	for t, v := range s.Types {
		out.Types = append(out.Types, XDSTypeStatus{
			Type: xds.Type(t).String(), Wanted: v.Wanted, Sent: v.Sent, Acked: v.Acked, Rejected: some(v.Rejected),
		})
	}
	if n := s.LastNack; n != nil {
		out.LastNack = &NackStatus{Type: n.Type.String(), Resources: some(n.Resources), Message: n.Message, Version: n.Version, When: n.When.UTC()}
	}
	return out
}

type nodePage struct {
	Role      dmsc.Role           `json:"role"`
	Transit   bool                `json:"transit"`
	Algorithm linkstate.Algorithm `json:"algorithm"`
	AvoidTags []string            `json:"avoid_tags"`
	Links     []linkPage          `json:"links"`
}

type linkPage struct {
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

type prefixesPage struct {
	Prefixes []prefixPage `json:"prefixes"`
}

type prefixPage struct {
	Prefix        string      `json:"prefix"`
	Metric        dmsc.Metric `json:"metric"`
	Preference    uint32      `json:"preference"`
	Weight        uint32      `json:"weight"`
	Protocol      string      `json:"protocol"`
	ReplaySafe    bool        `json:"replay_safe"`
	Attributes    []string    `json:"attributes"`
	Authorization string      `json:"authorization"` // SHA-256 in hex, "" for none
}

type authPage struct {
	POA string `json:"poa"` // in hex
}

// contentPage is what a record says; nil for a tombstone and for a record that
// is not understood.
func contentPage(c linkstate.Content) any {
	switch c := c.(type) {
	case *linkstate.NodeLSA:
		out := nodePage{Role: c.Role, Transit: c.Transit, Algorithm: c.Algorithm, AvoidTags: some(c.Avoid), Links: []linkPage{}}
		for _, l := range c.Links {
			out.Links = append(out.Links, linkPage{
				Neighbor: l.Remote, Link: l.ID, Metric: l.Metric, DelayMicros: l.Delay.Microseconds(), JitterMicros: l.Jitter.Microseconds(),
				Loss: l.Loss, CapacityBPS: l.Capacity, AvailableBPS: l.Available, Tags: some(l.Tags),
			})
		}
		return out
	case *linkstate.PrefixLSA:
		out := prefixesPage{Prefixes: []prefixPage{}}
		for _, p := range c.Prefixes {
			out.Prefixes = append(out.Prefixes, prefixPage{
				Prefix: p.Prefix.String(), Metric: p.Metric, Preference: p.Preference, Weight: p.Weight, Protocol: p.Protocol.String(),
				ReplaySafe: p.ReplaySafe, Attributes: some(p.Attributes), Authorization: hex.EncodeToString(p.Authorization),
			})
		}
		return out
	case *linkstate.AuthLSA:
		return authPage{POA: hex.EncodeToString(c.POA)}
	}
	return nil
}

// some is in, or an empty list for nil.
func some[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}
