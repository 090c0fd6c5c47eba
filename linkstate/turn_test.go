package linkstate

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// crowd is an Instance with n synchronized neighbours, and their links.
func crowd(t testing.TB, n int) (*Instance, []LinkKey) {
	inst, err := New(Config{Node: "hub", Domain: "test", Role: dmsc.RoleSR, Transit: true, Incarnation: 1, Encode: func(c Content) []byte {
		b, _ := json.Marshal(c)
		return b
	}}, dawn)
	if err != nil {
		t.Fatal(err)
	}
	var links []LinkConfig
	var keys []LinkKey
	for n := range n {
		k := LinkKey{dmsc.NodeID(fmt.Sprintf("n%04d", n)), "0"}
		keys = append(keys, k)
		links = append(links, LinkConfig{LinkKey: k, Metric: 10})
	}
	inst.Step(dawn, SetLinks{links})
	for _, k := range keys {
		inst.Step(dawn, StreamUp{Link: k})
		inst.Step(dawn, Received{k, &Hello{Domain: "test", Node: k.Remote, Link: "0", Role: dmsc.RoleSR, Session: 7, Seen: inst.links[k].session, Incarnation: 1, DataPlane: true}})
		inst.Step(dawn, Received{k, &Digest{Sums: make([]uint64, Ranges), Synced: true}})
		inst.Step(dawn, Probed{Link: k, OK: true, Peer: k.Remote, RTT: time.Millisecond})
	}
	for at := range 10 {
		inst.Tick(dawn.Add(time.Duration(at) * time.Second))
		for _, k := range keys {
			inst.Step(inst.now, Received{k, &LSAck{inst.links[k].out.seq}})
		}
	}
	inst.Ready()
	for _, a := range inst.View().Adjacencies {
		if a.State != StateFull || a.Pending != 0 {
			t.Fatalf("%s is %s with %d pending", a.LinkKey, a.State, a.Pending)
		}
	}
	return inst, keys
}

// flood lets a record pass through a hub, and returns how many pictures a reader
// who looks after each turn has got.
func flood(inst *Instance, keys []LinkKey, seq uint64) (views int) {
	var last *View
	turn := func(ev Event) {
		inst.Step(inst.now, ev)
		inst.Tick(inst.now)
		inst.Ready()
		if v := inst.View(); v != last {
			last = v
			views++
		}
	}
	c := &NodeLSA{Role: dmsc.RoleSR, Links: []Link{{Remote: "x", ID: "0", Metric: dmsc.Metric(1 + seq%2)}}}
	l := &LSA{Key: Key{"far", TypeNode, 0}, Order: Order{1, seq}, NotAfter: dawn.Add(MaxLifetime), Content: c, Body: fmt.Append(nil, seq)}
	turn(Received{keys[0], &LSUpdate{Seq: seq, Records: []*LSA{l}}})
	for _, k := range keys[1:] {
		turn(Received{k, &LSAck{inst.links[k].out.seq}})
	}
	return views
}

// One record makes every neighbour acknowledge. A picture of all adjacencies for
// each of them would cost the square of their number.
func TestAPictureIsNotMadeForEachAcknowledgement(t *testing.T) {
	inst, keys := crowd(t, 500)
	if views := flood(inst, keys, 1); views < 2 || views > 20 {
		t.Errorf("%d pictures while 499 neighbours acknowledge one record", views)
	}
	for _, a := range inst.View().Adjacencies {
		if a.Pending != 0 {
			t.Errorf("%s is shown with %d records pending after all was acknowledged", a.LinkKey, a.Pending)
		}
	}
}

// BenchmarkStepByNeighbours is what one event of one neighbour costs in a node
// with many: a probe's answer, with the Deadline its loop asks for. A flood is
// one record and the acknowledgements of all.
func BenchmarkStepByNeighbours(b *testing.B) {
	for _, n := range []int{1, 100, 500, 1000} {
		inst, keys := crowd(b, n)
		now := inst.now
		b.Run(fmt.Sprintf("probe/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				k := keys[i%n]
				inst.Step(now, Probed{Link: k, OK: true, Peer: k.Remote, RTT: time.Millisecond})
				inst.Ready()
				inst.Deadline()
			}
		})
		b.Run(fmt.Sprintf("hello/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				k := keys[i%n]
				inst.Step(now, Received{k, &Hello{Domain: "test", Node: k.Remote, Link: "0", Role: dmsc.RoleSR, Session: 7, Seen: inst.links[k].session, Incarnation: 1, DataPlane: true}})
				inst.Ready()
				inst.Deadline()
			}
		})
		b.Run(fmt.Sprintf("tick/%d", n), func(b *testing.B) {
			for b.Loop() {
				inst.Tick(now)
				inst.Ready()
				inst.Deadline()
			}
		})
		b.Run(fmt.Sprintf("flood/%d", n), func(b *testing.B) {
			for seq := uint64(1); b.Loop(); seq++ {
				flood(inst, keys, seq)
			}
		})
		b.Run(fmt.Sprintf("view/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				k := keys[i%n]
				inst.Step(now, Probed{Link: k, OK: true, Peer: k.Remote, RTT: time.Millisecond})
				inst.Ready()
				inst.View()
			}
		})
	}
}
