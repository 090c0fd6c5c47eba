package linkstate

import (
	"bytes"
	"slices"

	"github.com/dmsc-mesh/dmsc"
)

// urgency is the order in which records leave for a neighbour, most urgent
// first (design §4, Flooding).
type urgency uint8

const (
	urgentFailure       urgency = iota // a link or a node is lost or worse
	urgentWithdrawal                   // prefixes go and nothing comes instead
	urgentAuthorization                // before the prefixes that cite it
	urgentAddition
	urgentPlanned // prefixes go in a turn in which others come: after those
	urgentRefresh // nothing new to compute
	urgencies
)

// difference compares two versions of a record, either of which may be nil
// (absent): what has to be computed anew, and how urgent the new one is. The
// measured values of a link are no difference: they steer the SCSC, not SPF.
func difference(old, new *record) (Change, urgency) {
	if old != nil && new != nil && bytes.Equal(old.Body, new.Body) && old.Tombstone == new.Tombstone {
		return 0, urgentRefresh
	}
	key, was, is := Key{}, Content(nil), Content(nil)
	if old != nil {
		key, was = old.Key, old.Content
	}
	if new != nil {
		key, is = new.Key, new.Content
	}
	switch key.Type {
	case TypeNode:
		was, _ := was.(*NodeLSA)
		is, _ := is.(*NodeLSA)
		return nodeDifference(was, is)
	case TypePrefix:
		was, _ := was.(*PrefixLSA)
		is, _ := is.(*PrefixLSA)
		return prefixDifference(was, is)
	case TypeAuth:
		was, _ := was.(*AuthLSA)
		is, _ := is.(*AuthLSA)
		if was != nil && is != nil && bytes.Equal(was.POA, is.POA) {
			return 0, urgentRefresh
		}
		// What is authorized decides which prefixes count.
		return ChangedPrefixes, urgentAuthorization
	}
	return 0, urgentAddition
}

func nodeDifference(was, is *NodeLSA) (Change, urgency) {
	switch {
	case was == nil && is == nil:
		return 0, urgentWithdrawal // a tombstone of what we never had: others may
	case was == nil:
		return ChangedTopology, urgentAddition
	case is == nil:
		return ChangedTopology, urgentFailure
	}
	if was.Role == is.Role && was.Transit == is.Transit && was.Algorithm == is.Algorithm && slices.Equal(was.Avoid, is.Avoid) &&
		slices.EqualFunc(was.Links, is.Links, sameCost) {
		return 0, urgentRefresh
	}
	if !better(was, is) {
		return ChangedTopology, urgentFailure
	}
	return ChangedTopology, urgentAddition
}

// better reports whether a node only gained: links came or got cheaper, or it
// carries transit again.
func better(was, is *NodeLSA) bool {
	if was.Role != is.Role || was.Transit && !is.Transit || was.Algorithm != is.Algorithm || !slices.Equal(was.Avoid, is.Avoid) {
		return false
	}
	now := is.Links // sorted, like those before
	for _, l := range was.Links {
		for len(now) > 0 && now[0].key().Compare(l.key()) < 0 {
			now = now[1:]
		}
		if len(now) == 0 || now[0].key() != l.key() || now[0].Metric > l.Metric || !slices.Equal(now[0].Tags, l.Tags) {
			return false
		}
	}
	return true
}

// sameCost reports whether two versions of a link are one for SPF.
func sameCost(a, b Link) bool {
	return a.key() == b.key() && a.Metric == b.Metric && slices.Equal(a.Tags, b.Tags)
}

func prefixDifference(was, is *PrefixLSA) (Change, urgency) {
	switch {
	case was == nil && is == nil:
		return 0, urgentWithdrawal
	case was == nil:
		return ChangedPrefixes, urgentAddition
	case is == nil:
		return ChangedPrefixes, urgentWithdrawal
	}
	had := make(map[dmsc.ServicePrefix]bool, len(was.Prefixes))
	for _, p := range was.Prefixes {
		had[p.Prefix] = true
	}
	for _, p := range is.Prefixes {
		if !had[p.Prefix] {
			return ChangedPrefixes, urgentAddition
		}
	}
	if len(is.Prefixes) < len(was.Prefixes) {
		return ChangedPrefixes, urgentWithdrawal
	}
	return ChangedPrefixes, urgentAddition
}
