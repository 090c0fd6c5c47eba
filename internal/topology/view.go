package topology

import (
	"cmp"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// never is a NotAfter that no computation reaches.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// View returns the link state that node would have once the whole network has
// converged: the records all nodes agree on (each of order 1.1, without an
// encoded body), and the node's own links, all Full and alive. A one-way link
// stands in the record of its declarer and forms no adjacency. View returns nil
// for a node that is not in the topology.
func (t *Topology) View(node dmsc.NodeID) *linkstate.View { return t.Views()(node) }

// Views is View for many nodes of a topology that stays as it is: they share the
// records. The function may be called by several goroutines.
func (t *Topology) Views() func(node dmsc.NodeID) *linkstate.View {
	records := linkstate.NewRecords(t.records()...)
	return func(node dmsc.NodeID) *linkstate.View {
		self, ok := t.Node(node)
		if !ok {
			return nil
		}
		return &linkstate.View{
			Node: node, Role: self.Role, Incarnation: 1, Synced: true,
			Records: records, Adjacencies: t.adjacencies(self),
		}
	}
}

func (t *Topology) records() []*linkstate.LSA {
	links := map[dmsc.NodeID][]linkstate.Link{}
	for _, l := range t.Links {
		links[l.A] = append(links[l.A], l.toward(l.B, l.Metric))
		if !l.OneWay {
			links[l.B] = append(links[l.B], l.toward(l.A, l.ReverseMetric))
		}
	}
	var records []*linkstate.LSA
	add := func(key linkstate.Key, content linkstate.Content) {
		records = append(records, &linkstate.LSA{Key: key, Order: linkstate.Order{Incarnation: 1, Seq: 1}, NotAfter: never, Content: content})
	}
	for _, n := range t.Nodes {
		own := links[n.ID]
		slices.SortFunc(own, func(a, b linkstate.Link) int {
			return cmp.Or(cmp.Compare(a.Remote, b.Remote), cmp.Compare(a.ID, b.ID))
		})
		add(linkstate.Key{Origin: n.ID, Type: linkstate.TypeNode},
			&linkstate.NodeLSA{Role: n.Role, Transit: n.Transit, Algorithm: linkstate.AlgorithmIGP, Avoid: t.AvoidTags, Links: own})
	}
	for key, bucket := range t.buckets() {
		add(key, &linkstate.PrefixLSA{Prefixes: bucket})
	}
	return records
}

// buckets spreads what the pods announce over the records of their gateways.
// Pods of one gateway with the same prefix are one announcement, as good as the
// best of them and replay-safe if all are.
func (t *Topology) buckets() map[linkstate.Key][]linkstate.Prefix {
	buckets := map[linkstate.Key][]linkstate.Prefix{}
	for _, p := range t.Pods {
		for _, s := range p.Services {
			key := linkstate.Key{Origin: p.Gateway, Type: linkstate.TypePrefix, Fragment: linkstate.Bucket(s.Prefix)}
			bucket := buckets[key]
			i, found := slices.BinarySearchFunc(bucket, s.Prefix, func(x linkstate.Prefix, p dmsc.ServicePrefix) int { return x.Prefix.Compare(p) })
			if !found {
				buckets[key] = slices.Insert(bucket, i, linkstate.Prefix{
					Prefix: s.Prefix, Metric: s.Metric, Preference: s.Preference,
					Weight: s.Weight, Protocol: s.Protocol, ReplaySafe: s.ReplaySafe,
				})
				continue
			}
			b := &bucket[i]
			b.Metric = min(b.Metric, s.Metric)
			b.Preference = max(b.Preference, s.Preference)
			b.Weight += s.Weight
			b.ReplaySafe = b.ReplaySafe && s.ReplaySafe
		}
	}
	return buckets
}

func (t *Topology) adjacencies(self Node) []linkstate.Adjacency {
	var adjacencies []linkstate.Adjacency
	for _, l := range t.Links {
		remote, metric := l.B, l.Metric
		if self.ID == l.B {
			remote, metric = l.A, l.ReverseMetric
		}
		if l.OneWay || self.ID != l.A && self.ID != l.B {
			continue
		}
		far, _ := t.Node(remote)
		adjacencies = append(adjacencies, linkstate.Adjacency{
			LinkConfig: linkstate.LinkConfig{
				LinkKey: linkstate.LinkKey{Remote: remote, ID: l.ID},
				Metric:  metric, Class: l.Class, Capacity: l.Bandwidth, Tags: l.Tags, Fabric: self.Fabric,
			},
			State: linkstate.StateFull, Role: far.Role, Data: far.Fabric, Alive: true, RTT: 2 * l.Delay,
		})
	}
	slices.SortFunc(adjacencies, func(a, b linkstate.Adjacency) int { return a.LinkKey.Compare(b.LinkKey) })
	return adjacencies
}

func (l Link) toward(remote dmsc.NodeID, metric dmsc.Metric) linkstate.Link {
	return linkstate.Link{
		Remote: remote, ID: l.ID, Metric: metric, Delay: l.Delay,
		Capacity: l.Bandwidth, Available: l.Bandwidth, Tags: l.Tags,
	}
}
