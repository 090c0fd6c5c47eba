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

// All yields every entry that came, went or changed, as it was and as it is,
// nil for the side without it.
func (d Delta) All() iter.Seq2[*Entry, *Entry] {
	return func(yield func(was, is *Entry) bool) {
		for _, f := range d.removed {
			if !yield(d.from.entry(f), nil) {
				return
			}
		}
		for _, f := range d.added {
			if !yield(nil, d.to.entry(f)) {
				return
			}
		}
		for _, f := range d.changed {
			was, _ := d.from.facts.Get(f)
			if !yield(d.from.entry(was), d.to.entry(f)) {
				return
			}
		}
	}
}

// Diff tells how to get from one RIB to another; either may be nil, which is a
// RIB without entries. It costs what the two do not share: between two RIBs of
// one Engine in which no way has become another one it looks at the changed
// leaves of the table, and otherwise once at every fact.
func Diff(from, to *RIB) Delta {
	if from == nil {
		from = NewRIB("")
	}
	if to == nil {
		to = NewRIB("")
	}
	d := Delta{from: from, to: to}
	sameWays := from.routes.agree(to.routes)
	a, b := from.leaves(), to.leaves()
	for len(a) > 0 || len(b) > 0 {
		if sameWays && len(a) > 0 && len(b) > 0 && len(a[0]) == len(b[0]) && &a[0][0] == &b[0][0] {
			a, b = a[1:], b[1:]
			continue
		}
		switch order := compareHeads(a, b); {
		case order < 0:
			d.removed = append(d.removed, a[0][0])
			a = behindHead(a)
		case order > 0:
			d.added = append(d.added, b[0][0])
			b = behindHead(b)
		default:
			was, is := a[0][0], b[0][0]
			if (was != is || from.routes.get(was.slot) != to.routes.get(is.slot)) && !from.entry(was).equal(to.entry(is)) {
				d.changed = append(d.changed, is)
			}
			a, b = behindHead(a), behindHead(b)
		}
	}
	d.diffGroups()
	return d
}

// leaves are the facts of the table in order, in the pieces that copies share.
func (r *RIB) leaves() (leaves [][]*fact) {
	r.facts.Walk(func(items []*fact) bool {
		if len(items) > 0 {
			leaves = append(leaves, items)
		}
		return true
	})
	return leaves
}

// compareHeads compares what comes first; nothing comes last.
func compareHeads(a, b [][]*fact) int {
	switch {
	case len(b) == 0:
		return -1
	case len(a) == 0:
		return 1
	case a[0][0] == b[0][0]:
		return 0
	}
	return a[0][0].prefix.Compare(b[0][0].prefix)
}

func behindHead(leaves [][]*fact) [][]*fact {
	if leaves[0] = leaves[0][1:]; len(leaves[0]) == 0 {
		return leaves[1:]
	}
	return leaves
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
