package rib

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/tidwall/btree"

	"github.com/dmsc-mesh/dmsc"
)

// RIB is the result of one computation; immutable. Entries are put together
// when they are read, from what a name says of itself and from the way to its
// owners, which it shares with others: two RIBs that follow each other have all
// in common that has not changed, and a change of the way to a hundred names is
// one change.
type RIB struct {
	Node   dmsc.NodeID
	Groups []*Group // sorted by Name; every group some entry uses
	// GroupCap: there would be more than MaxGroups groups, and the entries of
	// the rarest ones share coarser groups, without an alternate.
	GroupCap bool

	facts  *btree.BTreeG[*fact]
	routes routes
}

// fact is what does not follow from the topology about a name with an entry;
// immutable but for the mark, which is the Engine's.
type fact struct {
	prefix     dmsc.ServicePrefix
	kind       Kind
	protocol   dmsc.Protocol
	replaySafe bool
	base       dmsc.Metric // the best prefix metric; the way to the owners comes on top
	slot       int32       // of the way in RIB.routes
	mark       uint32
	instances  []instance // of a function
}

// instance of a function, at one of its owners.
type instance struct {
	prefix dmsc.ServicePrefix
	owner  dmsc.NodeID // "" in a RIB that knows no network: counts always
}

// route is the way to an owner set, but for its length; immutable.
type route struct {
	egress   []dmsc.NodeID
	local    bool
	group    *Group
	noBackup string
}

// NewRIB returns the RIB of a node with the given entries, each of another
// prefix, and their groups. It is for tests and tools that know no network.
func NewRIB(node dmsc.NodeID, entries ...*Entry) *RIB {
	r := &RIB{Node: node, facts: newFacts()}
	r.put(entries)
	return r
}

// With returns a RIB that shares with r all but the given entries, which take
// the place of those of the same prefix. It is for tests and tools, too.
func (r *RIB) With(entries ...*Entry) *RIB {
	c := &RIB{Node: r.Node, facts: r.facts.Copy(), routes: slices.Clone(r.routes)}
	c.put(entries)
	return c
}

func (r *RIB) put(entries []*Entry) {
	slot := int32(len(r.routes) * chunkSize)
	for _, en := range entries {
		f := &fact{prefix: en.Prefix, kind: en.Kind, protocol: en.Protocol, replaySafe: en.ReplaySafe, slot: slot}
		for _, p := range en.Instances {
			f.instances = append(f.instances, instance{prefix: p})
		}
		r.facts.Set(f)
		r.routes.set(f.slot, way{en.Distance, &route{en.Egress, en.Local, en.Group, en.NoBackup}}, nil)
		slot++
	}
	groups := make(map[string]*Group)
	r.facts.Scan(func(f *fact) bool {
		if g := r.routes.get(f.slot).group; g != nil {
			groups[g.Name] = g
		}
		return true
	})
	r.Groups = slices.SortedFunc(maps.Values(groups), compareName)
}

func newFacts() *btree.BTreeG[*fact] {
	return btree.NewBTreeGOptions(func(a, b *fact) bool { return a.prefix.Compare(b.prefix) < 0 }, btree.Options{NoLocks: true})
}

func compareName(a, b *Group) int { return strings.Compare(a.Name, b.Name) }

// Len is the number of entries.
func (r *RIB) Len() int { return r.facts.Len() }

// All yields the entries, sorted by prefix.
func (r *RIB) All() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		r.facts.Scan(func(f *fact) bool { return yield(r.entry(f)) })
	}
}

// Lookup returns the entry that answers a name, nil if none does: the longest
// prefix by segments, a function only by its exact name. Case does not matter.
func (r *RIB) Lookup(name string) *Entry {
	for end := len(name); end > 0; end = strings.LastIndexByte(name[:end], '/') {
		p, err := dmsc.ParsePrefix(name[:end])
		if err != nil {
			continue
		}
		f, found := r.facts.Get(&fact{prefix: p})
		if found && (f.kind != Function || end == len(name)) {
			return r.entry(f)
		}
	}
	return nil
}

// entry puts an entry together.
func (r *RIB) entry(f *fact) *Entry {
	w := r.routes.get(f.slot)
	en := &Entry{
		Prefix: f.prefix, Kind: f.kind, Protocol: f.protocol, ReplaySafe: f.replaySafe,
		Distance: w.distance.Add(f.base), Egress: w.egress, Local: w.local, Group: w.group, NoBackup: w.noBackup,
	}
	for _, i := range f.instances {
		if _, chosen := slices.BinarySearch(w.egress, i.owner); !chosen && i.owner != "" {
			continue
		}
		if n := len(en.Instances); n == 0 || en.Instances[n-1] != i.prefix {
			en.Instances = append(en.Instances, i.prefix)
		}
	}
	return en
}

func (r *RIB) entries(facts []*fact) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, f := range facts {
			if !yield(r.entry(f)) {
				return
			}
		}
	}
}
