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

	from, to                *RIB
	added, removed, changed []*fact
}

// Added yields the entries of names that had none before.
func (d Delta) Added() iter.Seq[*Entry] { return d.to.entries(d.added) }

// Removed yields the entries, as they were, of names that have none any more.
func (d Delta) Removed() iter.Seq[*Entry] { return d.from.entries(d.removed) }

// Changed yields the entries that differ, as they are now.
func (d Delta) Changed() iter.Seq[*Entry] { return d.to.entries(d.changed) }

// Len is the number of entries that came, went or changed.
func (d Delta) Len() int { return len(d.added) + len(d.removed) + len(d.changed) }

// Empty reports whether nothing changed.
func (d Delta) Empty() bool { return d.Len()+len(d.GroupsAdded)+len(d.GroupsRemoved) == 0 }

// Diff tells how to get from one RIB to another, by a look at every entry;
// either may be nil, which is a RIB without entries.
func Diff(from, to *RIB) Delta {
	if from == nil {
		from = NewRIB("")
	}
	if to == nil {
		to = NewRIB("")
	}
	d := Delta{from: from, to: to}
	merge(from.all(), to.all(), func(a, b *fact) int { return a.prefix.Compare(b.prefix) }, func(was, is *fact) {
		switch {
		case was == nil:
			d.added = append(d.added, is)
		case is == nil:
			d.removed = append(d.removed, was)
		case !from.entry(was).equal(to.entry(is)):
			d.changed = append(d.changed, is)
		}
	})
	d.diffGroups()
	return d
}

func (d *Delta) diffGroups() {
	merge(d.from.Groups, d.to.Groups, compareName, func(was, is *Group) {
		switch {
		case was == nil:
			d.GroupsAdded = append(d.GroupsAdded, is)
		case is == nil:
			d.GroupsRemoved = append(d.GroupsRemoved, was)
		}
	})
}

// merge walks two slices sorted by distinct keys and visits each key once, with
// nil for the side that lacks it.
func merge[T any](from, to []*T, order func(a, b *T) int, visit func(was, is *T)) {
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(to) == 0 || len(from) > 0 && order(from[0], to[0]) < 0:
			visit(from[0], nil)
			from = from[1:]
		case len(from) == 0 || order(to[0], from[0]) < 0:
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
