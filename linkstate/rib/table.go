package rib

import (
	"maps"
	"slices"

	"github.com/tidwall/btree"

	"github.com/dmsc-mesh/dmsc"
)

// table is the RIB in the making, of which readers get pictures.
type table struct {
	facts   *btree.BTreeG[*fact]
	routes  routes
	fresh   map[int32]bool // chunks of routes that no picture has yet
	current *RIB           // the newest picture, be it given out or not
	changes bool           // since
}

func newTable(root dmsc.NodeID) table {
	return table{facts: newFacts(), fresh: make(map[int32]bool), current: NewRIB(root), changes: true}
}

// way is a route and its length.
type way struct {
	distance dmsc.Metric
	*route
}

// routes is an array of ways by slot. Copies share their chunks.
type routes []*chunk

const chunkSize = 64

type chunk [chunkSize]way

func (r routes) get(slot int32) way { return r[slot/chunkSize][slot%chunkSize] }

// agree reports whether what is in both is the same way: slots that come and go
// are of no fact that is in both tables.
func (r routes) agree(other routes) bool {
	for i := range min(len(r), len(other)) {
		if r[i] == other[i] {
			continue
		}
		for slot, w := range r[i] {
			if o := other[i][slot]; w != o && w.route != nil && o.route != nil {
				return false
			}
		}
	}
	return true
}

// set writes a slot. Chunks that are not in fresh are copied before; nil says
// that nobody shares any.
func (r *routes) set(slot int32, w way, fresh map[int32]bool) {
	i := slot / chunkSize
	for int(i) >= len(*r) {
		*r = append(*r, new(chunk))
		if fresh != nil {
			fresh[int32(len(*r)-1)] = true
		}
	}
	if fresh != nil && !fresh[i] {
		fresh[i] = true
		c := *(*r)[i]
		(*r)[i] = &c
	}
	(*r)[i][slot%chunkSize] = w
}

// put gives a name the entry with these facts, unless it has it.
func (e *Engine) put(n *name, f fact) {
	if o := n.fact; o != nil && o.kind == f.kind && o.protocol == f.protocol && o.replaySafe == f.replaySafe &&
		o.base == f.base && o.slot == f.slot && slices.Equal(o.instances, f.instances) {
		return
	}
	n.fact = &f
	e.facts.Set(n.fact)
	e.changes = true
}

// remove takes the entry of a name away.
func (e *Engine) remove(n *name) {
	if n.fact != nil {
		e.facts.Delete(n.fact)
		n.fact = nil
		e.changes = true
	}
}

// write puts the way to an owner set into its slot, unless it is there.
func (e *Engine) write(s *ownerSet) {
	var group *Group
	why := s.why
	if s.group != nil {
		group = s.group.final
		if group != s.group.Group && why == noReason && !group.ECMP() && len(group.Backup) == 0 {
			why = tooManyGroups
		}
	}
	was := s.shown
	same := was.route != nil && was.why == why &&
		(was.group == group || was.group != nil && group != nil && was.group.Name == group.Name)
	if same && was.distance == s.distance {
		return
	}
	if !same {
		r := &route{local: s.local, group: group, noBackup: noBackup[why]}
		for _, i := range s.egress {
			r.egress = append(r.egress, e.graph.ID(i))
		}
		slices.Sort(r.egress)
		s.shown = shown{route: r, group: group, why: why}
	}
	s.shown.distance = s.distance
	e.routes.set(s.slot, way{s.distance, s.shown.route}, e.fresh)
	e.changed = append(e.changed, s)
	e.changes = true
}

// picture returns what the table says now.
func (e *Engine) picture() *RIB {
	if !e.changes && !e.regrouped {
		return e.current
	}
	r := &RIB{Node: e.root, Groups: e.current.Groups, GroupCap: e.capped, facts: e.facts.Copy(), routes: slices.Clone(e.routes)}
	if e.regrouped {
		inUse := make(map[string]*Group, len(e.byMembers))
		for _, g := range e.byMembers {
			inUse[g.final.Name] = g.final
		}
		r.Groups = slices.SortedFunc(maps.Values(inUse), compareName)
	}
	clear(e.fresh)
	e.changes, e.regrouped, e.current = false, false, r
	return r
}

// collect says how two pictures differ: in the names that were looked at, and
// in those of the owner sets whose way was written.
func (e *Engine) collect(was, is *RIB) Delta {
	d := Delta{from: was, to: is}
	for _, n := range e.dirty {
		switch {
		case n.was == nil && n.fact == nil:
		case n.was == nil:
			d.added = append(d.added, n.fact)
		case n.fact == nil:
			d.removed = append(d.removed, n.was)
		case (n.fact != n.was || was.routes.get(n.was.slot) != is.routes.get(n.fact.slot)) && !was.entry(n.was).equal(is.entry(n.fact)):
			d.changed = append(d.changed, n.fact)
		}
	}
	for _, s := range e.changed {
		for _, n := range s.names {
			if !n.dirty {
				d.changed = append(d.changed, n.fact)
			}
		}
	}
	for _, n := range e.dirty {
		n.dirty, n.was = false, nil
	}
	e.dirty = e.dirty[:0]
	byPrefix := func(a, b *fact) int { return a.prefix.Compare(b.prefix) }
	slices.SortFunc(d.added, byPrefix)
	slices.SortFunc(d.removed, byPrefix)
	e.sort(d.changed)
	if len(was.Groups) > 0 && len(is.Groups) > 0 && &was.Groups[0] == &is.Groups[0] {
		return d
	}
	d.diffGroups()
	return d
}

// sort orders facts by prefix: many by a walk over the whole table, which is
// sorted.
func (e *Engine) sort(facts []*fact) {
	if len(facts) < e.facts.Len()/16 {
		slices.SortFunc(facts, func(a, b *fact) int { return a.prefix.Compare(b.prefix) })
		return
	}
	for _, f := range facts {
		f.mark = e.turn
	}
	facts = facts[:0]
	e.facts.Scan(func(f *fact) bool {
		if f.mark == e.turn {
			facts = append(facts, f)
		}
		return true
	})
}
