package rib

import "slices"

// Delta is what changed between two RIBs. All slices are sorted as in the RIB.
type Delta struct {
	Added, Removed []*Entry
	Changed        []*Entry // as they are now
	// A group's name tells all its members, so that groups come and go but
	// never change.
	GroupsAdded, GroupsRemoved []*Group
}

// Empty reports whether nothing changed.
func (d Delta) Empty() bool {
	return len(d.Added)+len(d.Removed)+len(d.Changed)+len(d.GroupsAdded)+len(d.GroupsRemoved) == 0
}

// Diff tells how to get from one RIB to another; either may be nil, which is a
// RIB without entries.
func Diff(from, to *RIB) Delta {
	from, to = orEmpty(from), orEmpty(to)
	var d Delta
	merge(from.Entries, to.Entries, func(en *Entry) string { return en.Prefix.String() }, func(old, new *Entry) {
		switch {
		case old == nil:
			d.Added = append(d.Added, new)
		case new == nil:
			d.Removed = append(d.Removed, old)
		case !old.equal(new):
			d.Changed = append(d.Changed, new)
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
	return r.GroupCap == s.GroupCap && slices.EqualFunc(r.Entries, s.Entries, (*Entry).equal) &&
		slices.EqualFunc(r.Nodes, s.Nodes, func(a, b NodeRoute) bool {
			return a.Node == b.Node && a.Distance == b.Distance && slices.Equal(a.NextHops, b.NextHops)
		})
}
