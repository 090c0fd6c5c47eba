package translator

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// names is the RIB in the form of the route tables: the names of each bundle,
// and those that are delivered here. It follows the RIB from one state to the
// next, so that a name that moves costs the two virtual hosts that it leaves and
// enters, and not the table.
type names struct {
	self    string // dmsc/node/<id> of this node, which dmsc/hello answers
	rib     *rib.RIB
	bundles map[bundleKey]*bundle
	sorted  []*bundle                         // by key; nil: to be made
	local   map[dmsc.ServicePrefix]*rib.Entry // delivered here
	locals  []dmsc.ServicePrefix              // their names, sorted; nil: to be made
	steered map[dmsc.ServicePrefix][]WeightedPath
}

// bundle is the names that share a next-hop group and a class, and with them
// their virtual hosts.
type bundle struct {
	bundleKey
	*rib.Group
	count int
	parts []*part
}

type bundleKey struct {
	group string
	class class
}

// part is the names of one virtual host. Those of a bundle are spread by hash
// over the least power of two of parts that leaves at most partSize to each on
// average: what a moved name costs does not grow with the table.
type part struct {
	names []name // sorted
	// The virtual host in each table, nil when it has to be made. The ingress's
	// lacks what is steered, and has perhaps no domains: then it is none.
	fabric, ingress *routev3.VirtualHost
}

const partSize = 512

type name struct {
	prefix dmsc.ServicePrefix
	kind   rib.Kind
}

func newNames(self dmsc.NodeID) *names {
	return &names{
		self: nodeName(self), rib: rib.NewRIB(self),
		bundles: make(map[bundleKey]*bundle), local: make(map[dmsc.ServicePrefix]*rib.Entry),
	}
}

// follow turns to another RIB and other steering.
func (n *names) follow(r *rib.RIB, steered map[dmsc.ServicePrefix][]WeightedPath) {
	if r != n.rib {
		for was, is := range rib.Diff(n.rib, r).All() {
			if was != nil {
				n.remove(was)
			}
			if is != nil {
				n.insert(is)
			}
		}
		n.rib = r
	}
	for _, change := range [][2]map[dmsc.ServicePrefix][]WeightedPath{{n.steered, steered}, {steered, n.steered}} {
		for p := range change[0] {
			if change[1][p] == nil {
				n.touch(p)
			}
		}
	}
	n.steered = steered
}

func (n *names) insert(e *rib.Entry) {
	switch {
	case e.Prefix.String() == n.self:
	case e.Local:
		n.local[e.Prefix] = e
		n.locals = nil
	default:
		b := n.bundles[keyOf(e)]
		if b == nil {
			b = &bundle{bundleKey: keyOf(e), Group: e.Group, parts: []*part{{}}}
			n.bundles[b.bundleKey] = b
			n.sorted = nil
		}
		if b.count++; b.count > len(b.parts)*partSize {
			b.spread(2 * len(b.parts))
		}
		b.part(e.Prefix).insert(name{e.Prefix, e.Kind})
	}
}

func (n *names) remove(e *rib.Entry) {
	switch {
	case e.Prefix.String() == n.self:
	case e.Local:
		delete(n.local, e.Prefix)
		n.locals = nil
	default:
		b := n.bundles[keyOf(e)]
		b.part(e.Prefix).remove(e.Prefix)
		b.count--
		switch {
		case b.count == 0:
			delete(n.bundles, b.bundleKey)
			n.sorted = nil
		case b.count <= len(b.parts)/2*partSize:
			b.spread(len(b.parts) / 2)
		}
	}
}

// touch has the ingress's virtual host of a name made anew.
func (n *names) touch(p dmsc.ServicePrefix) {
	if e := n.entry(p); e != nil && !e.Local {
		n.bundles[keyOf(e)].part(p).ingress = nil
	}
}

// entry is the one of exactly this name that a request may ask for, nil for none.
func (n *names) entry(p dmsc.ServicePrefix) *rib.Entry {
	if e := n.rib.Lookup(p.String()); e != nil && e.Prefix == p && e.Kind != rib.Node {
		return e
	}
	return nil
}

// all are the bundles, in the order of their keys.
func (n *names) all() []*bundle {
	if n.sorted == nil {
		n.sorted = slices.SortedFunc(maps.Values(n.bundles), func(x, y *bundle) int { return x.compare(y.bundleKey) })
	}
	return n.sorted
}

// delivered are the entries that end here, sorted.
func (n *names) delivered() []*rib.Entry {
	if n.locals == nil {
		n.locals = slices.SortedFunc(maps.Keys(n.local), dmsc.ServicePrefix.Compare)
	}
	entries := make([]*rib.Entry, len(n.locals))
	for i, p := range n.locals {
		entries[i] = n.local[p]
	}
	return entries
}

func keyOf(e *rib.Entry) bundleKey { return bundleKey{e.Group.Name, classOf(e)} }

// part is where a name belongs.
func (b *bundle) part(p dmsc.ServicePrefix) *part {
	const offset, prime = 2166136261, 16777619 // FNV-1a
	sum := uint32(offset)
	for _, c := range []byte(p.String()) {
		sum = (sum ^ uint32(c)) * prime
	}
	return b.parts[int(sum)&(len(b.parts)-1)]
}

func (n name) compare(other name) int { return n.prefix.Compare(other.prefix) }

func (p *part) insert(n name) {
	at := len(p.names)
	if at > 0 && p.names[at-1].compare(n) > 0 {
		at, _ = slices.BinarySearchFunc(p.names, n, name.compare)
	}
	p.names = slices.Insert(p.names, at, n)
	p.fabric, p.ingress = nil, nil
}

func (p *part) remove(prefix dmsc.ServicePrefix) {
	at, _ := slices.BinarySearchFunc(p.names, name{prefix: prefix}, name.compare)
	p.names = slices.Delete(p.names, at, at+1)
	p.fabric, p.ingress = nil, nil
}

func (k bundleKey) compare(other bundleKey) int {
	return cmp.Or(cmp.Compare(k.group, other.group), cmp.Compare(k.class, other.class))
}

// spread deals the names out to so many parts.
func (b *bundle) spread(parts int) {
	var all []name
	for _, p := range b.parts {
		all = append(all, p.names...)
	}
	if parts < len(b.parts) {
		slices.SortFunc(all, name.compare)
	}
	b.parts = make([]*part, parts)
	for i := range b.parts {
		b.parts[i] = new(part)
	}
	for _, n := range all { // each of the new parts is dealt from one old part, or all is sorted
		p := b.part(n.prefix)
		p.names = append(p.names, n)
	}
}

// hostName names the virtual host of a part.
func (b *bundle) hostName(part int) string {
	host := GroupCluster(b.Group) + "/" + string(b.class)
	if len(b.parts) > 1 {
		host += "/" + strconv.Itoa(part)
	}
	return host
}

// bundleHosts are the virtual hosts of the fabric's table, or of the ingress's,
// for what goes on to another node. They follow from their names, the node and
// its addresses alone, and are made anew only when one of these has changed.
func (b *builder) bundleHosts(ingress bool) []*routev3.VirtualHost {
	var hosts []*routev3.VirtualHost
	for _, g := range b.names.all() {
		for i, p := range g.parts {
			if p.fabric == nil {
				p.fabric = b.fabricHost(g)
				p.fabric.Name = g.hostName(i)
				for _, n := range p.names {
					p.fabric.Domains = append(p.fabric.Domains, domains(n.prefix, n.kind)...)
				}
			}
			if ingress && p.ingress == nil {
				p.ingress = b.ingressHost(g)
				p.ingress.Name, p.ingress.Domains = p.fabric.Name, b.unsteered(p)
			}
			switch {
			case !ingress:
				hosts = append(hosts, p.fabric)
			case len(p.ingress.Domains) > 0:
				hosts = append(hosts, p.ingress)
			}
		}
	}
	return hosts
}

// unsteered are the domains of a part that pods may ask for and no policy takes.
func (b *builder) unsteered(p *part) []string {
	other := func(n name) bool { return n.kind == rib.Node || b.steering[n.prefix] != nil }
	if !slices.ContainsFunc(p.names, other) {
		return p.fabric.Domains // the same memory
	}
	var unsteered []string
	for _, n := range p.names {
		if !other(n) {
			unsteered = append(unsteered, domains(n.prefix, n.kind)...)
		}
	}
	return unsteered
}
