package linkstate_test

import (
	"fmt"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
)

// BenchmarkFullSync brings a new neighbour from nothing to Synced: 10k nodes
// with 10 prefixes each, every prefix a record of its own, without the codec.
func BenchmarkFullSync(b *testing.B) {
	const nodes, prefixes = 10_000, 10
	now := linkstatetest.Epoch
	records := make([]*linkstate.LSA, 0, nodes*(prefixes+1))
	for n := range nodes {
		origin := dmsc.NodeID(fmt.Sprintf("n%d", n))
		add := func(typ linkstate.Type, fragment uint32, c linkstate.Content) {
			records = append(records, &linkstate.LSA{
				Key: linkstate.Key{Origin: origin, Type: typ, Fragment: fragment}, Order: linkstate.Order{Incarnation: 1, Seq: 1},
				NotAfter: now.Add(linkstate.MaxLifetime), Body: linkstatetest.Encode(c), Content: c,
			})
		}
		add(linkstate.TypeNode, 0, &linkstate.NodeLSA{Role: dmsc.RoleSR, Links: []linkstate.Link{{Remote: "x", ID: "0", Metric: 1}}})
		for p := range uint32(prefixes) {
			add(linkstate.TypePrefix, p, &linkstate.PrefixLSA{Prefixes: []linkstate.Prefix{linkstatetest.Prefix(fmt.Sprintf("f/%d/%d", n, p))}})
		}
	}
	for b.Loop() {
		b.StopTimer()
		full := start(b, link)
		tell := synced(full, now)
		for n := 0; n < len(records); n += 1000 {
			tell(&linkstate.LSUpdate{Seq: uint64(n/1000 + 1), Records: records[n:min(n+1000, len(records))]})
		}
		if have := full.View().Records.Len(); have != len(records)+1 {
			b.Fatalf("%d records, want %d", have, len(records)+1)
		}
		fresh, err := linkstate.New(linkstate.Config{
			Node: "sr-2", Domain: "test", Role: dmsc.RoleSR, Incarnation: 1, Encode: linkstatetest.Encode,
		}, now)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		there, back := linkstate.LinkKey{Remote: "sr-2", ID: "0"}, linkstate.LinkKey{Remote: "sg-1", ID: "0"}
		full.Step(now, linkstate.SetLinks{Links: []linkstate.LinkConfig{{LinkKey: there, Metric: 1}}})
		fresh.Step(now, linkstate.SetLinks{Links: []linkstate.LinkConfig{{LinkKey: back, Metric: 1}}})
		full.Step(now, linkstate.StreamUp{Link: there})
		fresh.Step(now, linkstate.StreamUp{Link: back})
		for {
			to, from := full.Ready().Messages, fresh.Ready().Messages
			if len(to)+len(from) == 0 {
				break
			}
			for _, e := range to {
				if e.Link == there {
					fresh.Step(now, linkstate.Received{Link: back, Message: e.Message})
				}
			}
			for _, e := range from {
				full.Step(now, linkstate.Received{Link: there, Message: e.Message})
			}
		}
		if v := fresh.View(); v.Adjacencies[0].State != linkstate.StateSynced || v.Records.Len() <= len(records) {
			b.Fatalf("%s with %d records", v.Adjacencies[0].State, v.Records.Len())
		}
	}
	b.ReportMetric(float64(len(records)), "records")
}

// BenchmarkFarLinkChange is one NodeLSA that arrives and leaves again, with the
// View a computation would ask for, in a database of 110k records.
func BenchmarkFarLinkChange(b *testing.B) {
	now := linkstatetest.Epoch
	inst := start(b, link)
	tell := synced(inst, now)
	batch := make([]*linkstate.LSA, 0, 1000)
	for n := range 110_000 {
		c := &linkstate.PrefixLSA{Prefixes: []linkstate.Prefix{linkstatetest.Prefix(fmt.Sprintf("f/%d", n))}}
		batch = append(batch, &linkstate.LSA{
			Key:   linkstate.Key{Origin: dmsc.NodeID(fmt.Sprintf("n%d", n/11)), Type: linkstate.TypePrefix, Fragment: uint32(n % 11)},
			Order: linkstate.Order{Incarnation: 1, Seq: 1}, NotAfter: now.Add(linkstate.MaxLifetime), Body: linkstatetest.Encode(c), Content: c,
		})
		if len(batch) == cap(batch) {
			tell(&linkstate.LSUpdate{Seq: uint64(n/1000 + 1), Records: batch})
			batch = make([]*linkstate.LSA, 0, 1000)
		}
	}
	inst.View()
	for seq := uint64(1); b.Loop(); seq++ {
		c := &linkstate.NodeLSA{Role: dmsc.RoleSR, Links: []linkstate.Link{{Remote: "x", ID: "0", Metric: dmsc.Metric(seq)}}}
		tell(&linkstate.LSUpdate{Seq: 110 + seq, Records: []*linkstate.LSA{{
			Key: linkstate.Key{Origin: "n5", Type: linkstate.TypeNode}, Order: linkstate.Order{Incarnation: 1, Seq: seq},
			NotAfter: now.Add(linkstate.MaxLifetime), Body: linkstatetest.Encode(c), Content: c,
		}}})
		if inst.View() == nil {
			b.Fatal("no view")
		}
	}
}
