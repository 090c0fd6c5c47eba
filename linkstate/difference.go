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
	if old != nil && new != nil && old.hash == new.hash && old.Tombstone == new.Tombstone {
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
	if was.Transit && !is.Transit {
		return ChangedTopology, urgentFailure
	}
	now := make(map[LinkKey]dmsc.Metric, len(is.Links))
	for _, l := range is.Links {
		now[LinkKey{l.Remote, l.ID}] = l.Metric
	}
	for _, l := range was.Links {
		if m, ok := now[LinkKey{l.Remote, l.ID}]; !ok || m > l.Metric {
			return ChangedTopology, urgentFailure
		}
	}
	return ChangedTopology, urgentAddition
}

// sameCost reports whether two versions of a link are one for SPF.
func sameCost(a, b Link) bool {
	return a.Remote == b.Remote && a.ID == b.ID && a.Metric == b.Metric && slices.Equal(a.Tags, b.Tags)
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
