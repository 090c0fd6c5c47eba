package xds

import (
	"iter"
	"maps"
	"slices"
)

// holding is what a client has accepted and still has, in one type. A client in
// step with a set holds no state of its own: a reference to the catalog that all
// such clients share, and the exceptions.
type holding struct {
	// base counts for the names that the client is subscribed to, by name or by
	// its wildcard.
	base *catalog
	// except overrules base; nil: the client has none of that name. A resource
	// known only from initial_resource_versions has a version and nothing else.
	except map[string]*resource
}

// held is what the client has under a name; nil = nothing.
func (s *subscription) held(name string) *resource {
	if r, ok := s.except[name]; ok {
		return r
	}
	return s.based(name)
}

// hold records what the client has from now on.
func (s *subscription) hold(name string, r *resource) {
	if s.based(name) == r {
		delete(s.except, name)
		return
	}
	if s.except == nil {
		s.except = map[string]*resource{}
	}
	s.except[name] = r
}

// based is held without the exceptions.
func (s *subscription) based(name string) *resource {
	if r := s.base.get(name); r != nil && (s.wildcard && !s.base.onDemand[name] || s.names.has(name)) {
		return r
	}
	return nil
}

// keep lets change alter the subscription to a name, and nothing of what the
// client has.
func (s *subscription) keep(name string, change func()) {
	r := s.held(name)
	change()
	s.hold(name, r)
}

// unbase writes out all that the client has. It costs as much as there is.
func (s *subscription) unbase() {
	all := maps.Collect(s.everything())
	s.base, s.except = nil, all
}

// everything is all that the client has.
func (s *subscription) everything() iter.Seq2[string, *resource] {
	return func(yield func(string, *resource) bool) {
		for name, r := range s.except {
			if r != nil && !yield(name, r) {
				return
			}
		}
		for name := range s.base.all() {
			if _, ok := s.except[name]; ok {
				continue
			}
			if r := s.based(name); r != nil && !yield(name, r) {
				return
			}
		}
	}
}

// smallMap is how many entries a map may have had that is kept for the next
// time: maps do not shrink.
const smallMap = 8

// rebase makes the wanted catalog the base. It rests on touch: of the names
// that are subscribed, the ones without an item are held as they are wanted.
// Nothing is done while the items are more than the exceptions, so that the
// work is in proportion to what was acknowledged before.
func (st *stream) rebase(t Type) {
	sub := &st.subs[t]
	next := st.want.types[t]
	if !sub.asked || len(sub.todo) > len(sub.except) || sub.base == next && len(sub.except) == 0 {
		return
	}
	var kept map[string]*resource
	keep := func(name string) {
		if kept == nil {
			kept = map[string]*resource{}
		}
		kept[name] = sub.held(name)
	}
	for name := range sub.todo {
		keep(name)
	}
	for name := range st.inherited[t] {
		keep(name)
	}
	if t == Endpoints {
		for name := range st.retained {
			keep(name)
		}
	}
	sub.base = next
	if len(sub.except) > smallMap {
		sub.except = nil
	}
	clear(sub.except)
	for name, r := range kept {
		sub.hold(name, r)
	}
	sub.names.share(next.names)
}

// nameSet is a set of subscribed names. Clients that subscribe to nearly all
// names of a catalog share its list.
type nameSet struct {
	list  []string // sorted, shared
	plus  map[string]struct{}
	minus map[string]struct{} // of list
	tried int                 // len(plus)+len(minus) when share did not help
	size  int                 // of all names, by sizeOf
}

func (n *nameSet) has(name string) bool {
	if _, ok := n.plus[name]; ok {
		return true
	}
	if _, ok := slices.BinarySearch(n.list, name); !ok {
		return false
	}
	_, gone := n.minus[name]
	return !gone
}

func (n *nameSet) add(name string) {
	if n.has(name) {
		return
	}
	n.size += sizeOf(name)
	if _, gone := n.minus[name]; gone {
		delete(n.minus, name)
		return
	}
	if n.plus == nil {
		n.plus = map[string]struct{}{}
	}
	n.plus[name] = struct{}{}
}

func (n *nameSet) remove(name string) {
	if !n.has(name) {
		return
	}
	n.size -= sizeOf(name)
	if _, own := n.plus[name]; own {
		delete(n.plus, name)
		return
	}
	if n.minus == nil {
		n.minus = map[string]struct{}{}
	}
	n.minus[name] = struct{}{}
}

func (n *nameSet) len() int { return len(n.list) - len(n.minus) + len(n.plus) }

func (n *nameSet) all() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, name := range n.list {
			if _, gone := n.minus[name]; !gone && !yield(name) {
				return
			}
		}
		for name := range n.plus {
			if !yield(name) {
				return
			}
		}
	}
}

// share rests the set on list, if that leaves less to remember. It looks again
// only when the set has grown by half.
func (n *nameSet) share(list []string) {
	own := len(n.plus) + len(n.minus)
	if own <= 8 || own <= n.tried+n.tried/2 {
		return
	}
	n.tried = own
	next := nameSet{list: list}
	common := 0
	for _, name := range list {
		if n.has(name) {
			common++
		}
	}
	if len(list)-common+n.len()-common >= own/2 {
		return
	}
	for _, name := range list {
		if !n.has(name) {
			if next.minus == nil {
				next.minus = map[string]struct{}{}
			}
			next.minus[name] = struct{}{}
		}
	}
	for name := range n.all() {
		next.add(name)
	}
	next.size = n.size
	*n = next
}
