package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// Difference says in words what a record says now and did not say before.
// Either may be nil, for no record or one without content. No words mean that
// nothing differs but the order.
func Difference(was, is *Record) []string {
	switch {
	case empty(was) && empty(is):
		return nil
	case empty(is):
		return []string{"withdrawn"}
	case was != nil && was.Content == nil && is.Content == nil:
		if was.BodySHA256 != is.BodySHA256 {
			return []string{"another body, which is not understood here"}
		}
		return nil
	}
	var out []string
	if empty(was) {
		out = append(out, "new")
		was = &Record{}
	}
	before, now := was.Content, is.Content
	if before == nil {
		before = &Content{}
	}
	switch {
	case now == nil:
	case now.NodeContent != nil:
		n := before.NodeContent
		if n == nil {
			n = &NodeContent{Role: now.Role, Transit: now.Transit, Algorithm: now.Algorithm, AvoidTags: now.AvoidTags}
		}
		out = append(out, nodeDifference(n, now.NodeContent)...)
	case now.PrefixContent != nil:
		p := before.PrefixContent
		if p == nil {
			p = &PrefixContent{}
		}
		out = append(out, prefixDifference(p.Prefixes, now.Prefixes)...)
	case now.AuthContent != nil && before.AuthContent != nil && before.POA != now.POA:
		out = append(out, "another authorization")
	}
	return out
}

func empty(r *Record) bool { return r == nil || r.Tombstone }

func nodeDifference(was, is *NodeContent) []string {
	var out []string
	if was.Role != is.Role {
		out = append(out, fmt.Sprintf("role %s → %s", was.Role, is.Role))
	}
	if was.Transit != is.Transit {
		out = append(out, map[bool]string{true: "carries transit", false: "last resort"}[is.Transit])
	}
	if was.Algorithm != is.Algorithm {
		out = append(out, fmt.Sprintf("metric algorithm %s → %s", was.Algorithm, is.Algorithm))
	}
	if !slices.Equal(was.AvoidTags, is.AvoidTags) {
		out = append(out, fmt.Sprintf("avoided tags %v → %v", was.AvoidTags, is.AvoidTags))
	}
	for _, l := range is.Links {
		old, ok := linkIn(was.Links, l)
		if !ok {
			out = append(out, fmt.Sprintf("link to %s up (metric %s)", l.name(), Cost(l.Metric)))
			continue
		}
		var what []string
		if old.Metric != l.Metric {
			what = append(what, fmt.Sprintf("metric %s → %s", Cost(old.Metric), Cost(l.Metric)))
		}
		if !slices.Equal(old.Tags, l.Tags) {
			what = append(what, fmt.Sprintf("tags %v → %v", old.Tags, l.Tags))
		}
		if old.DelayMicros != l.DelayMicros {
			what = append(what, fmt.Sprintf("delay %v → %v", micros(old.DelayMicros), micros(l.DelayMicros)))
		}
		if old.JitterMicros != l.JitterMicros || old.Loss != l.Loss || old.CapacityBPS != l.CapacityBPS || old.AvailableBPS != l.AvailableBPS {
			what = append(what, "other measured values")
		}
		if len(what) > 0 {
			out = append(out, fmt.Sprintf("link to %s: %s", l.name(), strings.Join(what, ", ")))
		}
	}
	for _, l := range was.Links {
		if _, ok := linkIn(is.Links, l); !ok {
			out = append(out, fmt.Sprintf("link to %s down", l.name()))
		}
	}
	return out
}

func prefixDifference(was, is []Announced) []string {
	var out []string
	for _, p := range is {
		i := slices.IndexFunc(was, func(o Announced) bool { return o.Prefix == p.Prefix })
		switch {
		case i < 0:
			out = append(out, "prefix "+p.Prefix+" added")
		case was[i].Metric != p.Metric:
			out = append(out, fmt.Sprintf("prefix %s: metric %s → %s", p.Prefix, Cost(was[i].Metric), Cost(p.Metric)))
		case was[i].Preference != p.Preference:
			out = append(out, fmt.Sprintf("prefix %s: preference %d → %d", p.Prefix, was[i].Preference, p.Preference))
		case was[i].Weight != p.Weight:
			out = append(out, fmt.Sprintf("prefix %s: weight %d → %d", p.Prefix, was[i].Weight, p.Weight))
		case was[i].Protocol != p.Protocol || was[i].ReplaySafe != p.ReplaySafe || was[i].Authorization != p.Authorization || !slices.Equal(was[i].Attributes, p.Attributes):
			out = append(out, "prefix "+p.Prefix+": other attributes")
		}
	}
	for _, p := range was {
		if !slices.ContainsFunc(is, func(o Announced) bool { return o.Prefix == p.Prefix }) {
			out = append(out, "prefix "+p.Prefix+" removed")
		}
	}
	return out
}

func linkIn(links []LinkContent, l LinkContent) (LinkContent, bool) {
	i := slices.IndexFunc(links, func(o LinkContent) bool { return o.Neighbor == l.Neighbor && o.Link == l.Link })
	if i < 0 {
		return LinkContent{}, false
	}
	return links[i], true
}

// name is the link as everywhere: the neighbour, with "#link" for a link other
// than 0.
func (l LinkContent) name() string {
	if l.Link == "0" || l.Link == "" {
		return string(l.Neighbor)
	}
	return string(l.Neighbor) + "#" + string(l.Link)
}

// Cost prints a metric or distance for people: what leads through last-resort
// nodes or links says so.
func Cost(m dmsc.Metric) string {
	if m < dmsc.LastResort {
		return fmt.Sprint(uint64(m))
	}
	if m == dmsc.Unreachable {
		return "unreachable"
	}
	out := "last resort"
	if n := m / dmsc.LastResort; n > 1 {
		out = fmt.Sprintf("%d last resorts", n)
	}
	if rest := m % dmsc.LastResort; rest > 0 {
		out += fmt.Sprintf(" + %d", rest)
	}
	return out
}

func micros(us int64) time.Duration { return time.Duration(us) * time.Microsecond }
