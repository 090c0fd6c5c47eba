package rib

import (
	"iter"
	"slices"
)

// Delta is what changed between two RIBs, in the order of the RIB.
type Delta struct {
	// A group's name tells all its members, so that groups come and go but
	// never change.
	GroupsAdded, GroupsRemoved []*Group

	added, removed, changed []*Entry
}

// Added yields the entries of names that had none before.
func (d Delta) Added() iter.Seq[*Entry] { return slices.Values(d.added) }

// Removed yields the entries, as they were, of names that have none any more.
func (d Delta) Removed() iter.Seq[*Entry] { return slices.Values(d.removed) }

// Changed yields the entries that differ, as they are now.
func (d Delta) Changed() iter.Seq[*Entry] { return slices.Values(d.changed) }

// Len is the number of entries that came, went or changed.
func (d Delta) Len() int { return len(d.added) + len(d.removed) + len(d.changed) }

// Empty reports whether nothing changed.
func (d Delta) Empty() bool { return d.Len()+len(d.GroupsAdded)+len(d.GroupsRemoved) == 0 }

// Diff tells how to get from one RIB to another; either may be nil, which is a
// RIB without entries.
func Diff(from, to *RIB) Delta {
	from, to = orEmpty(from), orEmpty(to)
	var d Delta
	merge(from.entries, to.entries, func(en *Entry) string { return en.Prefix.String() }, func(old, new *Entry) {
		switch {
		case old == nil:
			d.added = append(d.added, new)
		case new == nil:
			d.removed = append(d.removed, old)
		case !old.equal(new):
			d.changed = append(d.changed, new)
		}
	})
	merge(from.Groups, to.Groups, func(g *Group) string { return g.Name }, func(old, new *Group) {
		switch {
		case old == nil:
			d.GroupsAdded = append(d.GroupsAdded, new)
		case new == nil:
			d.GroupsRemoved = append(d.GroupsRemoved, old)
		}
	})
	return d
}

func orEmpty(r *RIB) *RIB {
	if r == nil {
		return &RIB{}
	}
	return r
}

// merge walks two slices sorted by distinct keys and visits each key once, with
// nil for the side that lacks it.
func merge[T any](from, to []*T, key func(*T) string, visit func(old, new *T)) {
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(to) == 0 || len(from) > 0 && key(from[0]) < key(to[0]):
			visit(from[0], nil)
			from = from[1:]
		case len(from) == 0 || key(to[0]) < key(from[0]):
			visit(nil, to[0])
			to = to[1:]
		default:
			visit(from[0], to[0])
			from, to = from[1:], to[1:]
		}
	}
}

// equal compares the content of two entries; of groups the names.
func (en *Entry) equal(o *Entry) bool {
	return en.Prefix == o.Prefix && en.Kind == o.Kind && en.Distance == o.Distance &&
		slices.Equal(en.Egress, o.Egress) && en.Protocol == o.Protocol && en.ReplaySafe == o.ReplaySafe &&
		en.Local == o.Local && en.groupName() == o.groupName() && en.NoBackup == o.NoBackup &&
		slices.Equal(en.Instances, o.Instances)
}

func (en *Entry) groupName() string {
	if en.Group == nil {
		return ""
	}
	return en.Group.Name
}

// equal compares two RIBs of one node. Groups follow from the entries.
func equal(r, s *RIB) bool {
	return r.GroupCap == s.GroupCap && slices.EqualFunc(r.entries, s.entries, (*Entry).equal)
}
