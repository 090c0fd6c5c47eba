package rib_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// network is what a test says about a domain; view makes records of it.
type network struct {
	nodes    map[dmsc.NodeID]*linkstate.NodeLSA
	prefixes map[dmsc.NodeID][]linkstate.Prefix
	held     []linkstate.LinkKey
	resumed  bool                            // and it is the root that has restarted
	told     map[dmsc.NodeID]*linkstate.View // see changed
}

// changed returns the keys of the records that differ from those of the view
// of the last call for the same node.
func (n *network) changed(v *linkstate.View) []linkstate.Key {
	keys := changedKeys(n.told[v.Node], v)
	n.told[v.Node] = v
	return keys
}

// changedKeys returns the keys of the records in which two views differ. from
// may be nil.
func changedKeys(from, to *linkstate.View) []linkstate.Key {
	var keys []linkstate.Key
	if from == nil {
		from = &linkstate.View{}
	}
	for l := range to.Records.All() {
		if old := from.Records.Get(l.Key); old == nil || !reflect.DeepEqual(old.Content, l.Content) {
			keys = append(keys, l.Key)
		}
	}
	for l := range from.Records.All() {
		if to.Records.Get(l.Key) == nil {
			keys = append(keys, l.Key)
		}
	}
	return keys
}

func newNetwork() *network {
	return &network{nodes: map[dmsc.NodeID]*linkstate.NodeLSA{}, prefixes: map[dmsc.NodeID][]linkstate.Prefix{}, told: map[dmsc.NodeID]*linkstate.View{}}
}

// node returns the node, a new one if need be. A name that begins with "sg-"
// makes it an SG, which does not carry transit.
func (n *network) node(id dmsc.NodeID) *linkstate.NodeLSA {
	if n.nodes[id] == nil {
		n.nodes[id] = &linkstate.NodeLSA{Role: dmsc.RoleSR, Transit: true}
		if strings.HasPrefix(string(id), "sg-") {
			n.nodes[id] = &linkstate.NodeLSA{Role: dmsc.RoleSG}
		}
	}
	return n.nodes[id]
}

func (n *network) link(a, b dmsc.NodeID, id dmsc.LinkID, there, back dmsc.Metric) {
	n.node(a).Links = append(n.node(a).Links, linkstate.Link{Remote: b, ID: id, Metric: there})
	n.node(b).Links = append(n.node(b).Links, linkstate.Link{Remote: a, ID: id, Metric: back})
}

func (n *network) ids() []dmsc.NodeID {
	var ids []dmsc.NodeID
	for id := range n.nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// view is the network as root sees it. Every call makes new records.
func (n *network) view(root dmsc.NodeID) *linkstate.View {
	v := &linkstate.View{Node: root, Synced: true}
	var records []*linkstate.LSA
	for id := range n.nodes {
		records = append(records, n.nodeRecord(id))
	}
	for id := range n.prefixes {
		records = append(records, n.prefixRecords(id)...)
	}
	v.Records = linkstate.NewRecords(records...)
	for _, l := range n.node(root).Links {
		a := linkstate.Adjacency{LinkConfig: linkstate.LinkConfig{LinkKey: linkstate.LinkKey{Remote: l.Remote, ID: l.ID}}, State: linkstate.StateFull}
		if slices.Contains(n.held, a.LinkKey) {
			a.State, a.Resumed = linkstate.StateHeld, n.resumed
		}
		v.Adjacencies = append(v.Adjacencies, a)
	}
	return v
}

func (n *network) nodeRecord(id dmsc.NodeID) *linkstate.LSA {
	content := *n.nodes[id]
	content.Links = slices.Clone(content.Links)
	return &linkstate.LSA{Key: linkstate.Key{Origin: id, Type: linkstate.TypeNode}, Content: &content}
}

func (n *network) prefixRecords(id dmsc.NodeID) []*linkstate.LSA {
	var records []*linkstate.LSA
	buckets := map[uint32]*linkstate.PrefixLSA{}
	for _, p := range n.prefixes[id] {
		b := linkstate.Bucket(p.Prefix)
		if buckets[b] == nil {
			buckets[b] = &linkstate.PrefixLSA{}
		}
		buckets[b].Prefixes = append(buckets[b].Prefixes, p)
	}
	for b, content := range buckets {
		records = append(records, &linkstate.LSA{
			Key: linkstate.Key{Origin: id, Type: linkstate.TypePrefix, Fragment: b}, Content: content,
		})
	}
	return records
}

// apply reads one line of a scene; see TestScenes.
func (n *network) apply(t *testing.T, line string) {
	f := strings.Fields(line)
	if len(f) == 0 || f[0][0] == '#' {
		return
	}
	id := func(i int) dmsc.NodeID { return dmsc.NodeID(f[i]) }
	number := func(s string) dmsc.Metric {
		m, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return dmsc.Metric(m)
	}
	switch f[0] {
	case "link", "cut":
		link := dmsc.LinkID("0")
		if last := f[len(f)-1]; last[0] == '#' {
			link, f = dmsc.LinkID(last[1:]), f[:len(f)-1]
		}
		if f[0] == "cut" {
			n.cut(id(1), id(2), link)
			return
		}
		n.link(id(1), id(2), link, number(f[3]), number(f[len(f)-1]))
	case "prefix":
		p := linkstate.Prefix{Prefix: dmsc.MustParsePrefix(f[2])}
		for _, arg := range f[3:] {
			k, value, _ := strings.Cut(arg, "=")
			switch k {
			case "metric":
				p.Metric = number(value)
			case "preference":
				p.Preference = uint32(number(value))
			case "weight":
				p.Weight = uint32(number(value))
			case "safe":
				p.ReplaySafe = true
			default:
				t.Fatalf("unknown argument %s", arg)
			}
		}
		n.prefixes[id(1)] = append(n.prefixes[id(1)], p)
	case "withdraw":
		n.prefixes[id(1)] = slices.DeleteFunc(n.prefixes[id(1)], func(p linkstate.Prefix) bool { return p.Prefix.String() == f[2] })
	case "drain":
		n.node(id(1)).Transit = false
	case "algorithm":
		n.node(id(1)).Algorithm = linkstate.Algorithm(number(f[2]))
	case "avoid":
		n.node(id(1)).Avoid = f[2:]
	case "tag": // all links between two nodes, at both ends
		for _, end := range [][2]dmsc.NodeID{{id(1), id(2)}, {id(2), id(1)}} {
			for i, l := range n.node(end[0]).Links {
				if l.Remote == end[1] {
					n.node(end[0]).Links[i].Tags = f[3:]
				}
			}
		}
	case "remove":
		delete(n.nodes, id(1))
	case "held":
		n.held = append(n.held, linkstate.LinkKey{Remote: id(1), ID: "0"})
	case "resumed":
		n.resumed = true
	default:
		t.Fatalf("unknown line %q", line)
	}
}

// cut removes both directions of a link.
func (n *network) cut(a, b dmsc.NodeID, link dmsc.LinkID) {
	for _, end := range [][2]dmsc.NodeID{{a, b}, {b, a}} {
		node := n.node(end[0])
		node.Links = slices.DeleteFunc(slices.Clone(node.Links), func(l linkstate.Link) bool {
			return l.Remote == end[1] && l.ID == link
		})
	}
}

// String prints the network as a scene that TestScenes could run.
func (n *network) String() string {
	var lines []string
	for id, node := range n.nodes {
		for _, l := range node.Links {
			if id < l.Remote {
				for _, back := range n.nodes[l.Remote].Links {
					if back.Remote == id && back.ID == l.ID {
						lines = append(lines, fmt.Sprintf("link %s %s %d %d #%s\n", id, l.Remote, l.Metric, back.Metric, l.ID))
					}
				}
			}
		}
		if !node.Transit && node.Role == dmsc.RoleSR {
			lines = append(lines, fmt.Sprintf("drain %s\n", id))
		}
		if node.Algorithm != 0 {
			lines = append(lines, fmt.Sprintf("algorithm %s %d\n", id, node.Algorithm))
		}
		if len(node.Avoid) > 0 {
			lines = append(lines, fmt.Sprintf("avoid %s %s\n", id, strings.Join(node.Avoid, " ")))
		}
		for _, l := range node.Links {
			if len(l.Tags) > 0 {
				lines = append(lines, fmt.Sprintf("# %s to %s #%s is %s\n", id, l.Remote, l.ID, strings.Join(l.Tags, " ")))
			}
		}
	}
	slices.Sort(lines)
	for _, id := range n.ids() {
		for _, p := range n.prefixes[id] {
			safe := ""
			if p.ReplaySafe {
				safe = " safe"
			}
			lines = append(lines, fmt.Sprintf("prefix %s %s metric=%d preference=%d weight=%d%s\n", id, p.Prefix, p.Metric, p.Preference, p.Weight, safe))
		}
	}
	return strings.Join(lines, "")
}

// colour tags some links, at one end or both, and has most nodes avoid a tag.
func (n *network) colour(r *rand.Rand) {
	colours := []string{"blue", "green", "red"}
	common := colours[r.IntN(3):]
	for _, id := range n.ids() {
		node := n.nodes[id]
		if node.Avoid = common; r.IntN(4) == 0 {
			node.Avoid = colours[r.IntN(3):]
		}
		for i := range node.Links {
			if node.Links[i].Tags = nil; r.IntN(3) == 0 {
				node.Links[i].Tags = []string{colours[r.IntN(3)]}
			}
		}
	}
}

// randomNetwork has 3..9 nodes, mostly connected, with asymmetric metrics small
// enough for equal costs, parallel links, drained nodes, two algorithms,
// functions, and names with up to three owners of different metric, preference
// and weight.
func randomNetwork(r *rand.Rand) *network {
	net := newNetwork()
	n := 3 + r.IntN(7)
	ids := make([]dmsc.NodeID, n)
	for i := range ids {
		ids[i] = dmsc.NodeID(fmt.Sprintf("%s-%d", []string{"sg", "sr", "sr"}[r.IntN(3)], i))
		if node := net.node(ids[i]); r.IntN(10) == 0 {
			node.Transit = false
		} else if r.IntN(10) == 0 {
			node.Algorithm = linkstate.AlgorithmDelay
		}
	}
	spread := 1 + r.IntN(12)
	seen := map[string]bool{}
	link := func(i, j int) {
		id := dmsc.LinkID([]string{"0", "0", "0", "1"}[r.IntN(4)])
		key := fmt.Sprint(min(i, j), max(i, j), id)
		if i != j && !seen[key] {
			seen[key] = true
			m := dmsc.Metric(1 + r.IntN(spread))
			back := m
			if r.IntN(2) == 0 {
				back = dmsc.Metric(1 + r.IntN(spread))
			}
			net.link(ids[i], ids[j], id, m, back)
		}
	}
	for i := 1; i < n; i++ {
		if r.IntN(12) > 0 {
			link(i, r.IntN(i))
		}
	}
	for range r.IntN(2*n + 1) {
		link(r.IntN(n), r.IntN(n))
	}
	names := []string{"a/1", "a/2", "a/2/x", "b/1", "b/2", "b", "c/1/y", "d"}
	for _, name := range names {
		for range r.IntN(4) {
			owner := ids[r.IntN(n)]
			p := linkstate.Prefix{Prefix: dmsc.MustParsePrefix(name), ReplaySafe: r.IntN(2) == 0, Protocol: dmsc.Protocol(r.IntN(4))}
			if r.IntN(2) == 0 {
				p.Metric = dmsc.Metric(r.IntN(3 * spread))
			}
			if r.IntN(4) == 0 {
				p.Preference = uint32(r.IntN(2))
			}
			if r.IntN(3) == 0 {
				p.Weight = uint32(r.IntN(7))
			}
			if !slices.ContainsFunc(net.prefixes[owner], func(q linkstate.Prefix) bool { return q.Prefix == p.Prefix }) {
				net.prefixes[owner] = append(net.prefixes[owner], p)
			}
		}
	}
	if r.IntN(4) == 0 {
		net.colour(r)
	}
	for _, prefixes := range net.prefixes {
		slices.SortFunc(prefixes, func(a, b linkstate.Prefix) int { return cmp.Compare(a.Prefix.String(), b.Prefix.String()) })
	}
	return net
}
