package linkstate

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

func TestForgedOrdersAreOutdoneOrAlarmed(t *testing.T) {
	f := newFoe(t)
	key := Key{"sg-1", TypeNode, 0}
	forged := f.lsa("sg-1", TypeNode, 0, "forged")
	forged.Order = Order{1, math.MaxUint64}
	rd := f.update(forged)
	if rd.Incarnation != 2 || f.db.records[key].Incarnation != 2 || alarms(rd, AlarmOwnRecordNewer) != 1 {
		t.Errorf("incarnation %d, record %s, alarms %v", rd.Incarnation, f.db.records[key].Order, rd.Alarms)
	}
	// One that leaves no starts is not followed: the next start could not go on.
	forged.Order = Order{MaxIncarnation - 1, 1}
	rd = f.update(forged)
	if rd.Incarnation != 0 || alarms(rd, AlarmIncarnationExhausted) != 1 {
		t.Errorf("incarnation %d, alarms %v", rd.Incarnation, rd.Alarms)
	}
	sent := 0
	for range 100 {
		sent += records(f.update(forged))
	}
	if sent > originateBurst+1 {
		t.Errorf("%d records are sent against one that cannot be outdone", sent)
	}
}

// wired are Instances whose messages reach each other at once.
type wired struct {
	nodes []*Instance
	far   map[*Instance]map[LinkKey]*Instance
	names map[*Instance]map[LinkKey]LinkKey // of the same link at its far end
	sent  int                               // records
	said  map[string]int                    // alarms by code
}

// line puts a node of each name in a row.
func line(t *testing.T, names ...dmsc.NodeID) *wired {
	w := &wired{far: map[*Instance]map[LinkKey]*Instance{}, names: map[*Instance]map[LinkKey]LinkKey{}, said: map[string]int{}}
	for n, name := range names {
		inst, err := New(Config{Node: name, Domain: "test", Role: dmsc.RoleSR, Transit: true, Incarnation: 1, Seed: uint64(n), Encode: func(c Content) []byte {
			b, _ := json.Marshal(c)
			return b
		}}, dawn)
		if err != nil {
			t.Fatal(err)
		}
		w.nodes = append(w.nodes, inst)
		w.far[inst], w.names[inst] = map[LinkKey]*Instance{}, map[LinkKey]LinkKey{}
		var links []LinkConfig
		if n > 0 {
			links = append(links, LinkConfig{LinkKey: LinkKey{names[n-1], "0"}, Metric: 10})
		}
		if n < len(names)-1 {
			links = append(links, LinkConfig{LinkKey: LinkKey{names[n+1], "0"}, Metric: 10})
		}
		inst.Step(dawn, SetLinks{links})
	}
	for n, left := range w.nodes[:len(names)-1] {
		right := w.nodes[n+1]
		l, r := LinkKey{names[n+1], "0"}, LinkKey{names[n], "0"}
		w.far[left][l], w.far[right][r] = right, left
		w.names[left][l], w.names[right][r] = r, l
		left.Step(dawn, StreamUp{Link: l})
		right.Step(dawn, StreamUp{Link: r})
		left.Step(dawn, Probed{Link: l, OK: true, Peer: l.Remote})
		right.Step(dawn, Probed{Link: r, OK: true, Peer: r.Remote})
	}
	return w
}

func (w *wired) run(d time.Duration) {
	const step = 10 * time.Millisecond
	now := w.nodes[0].now
	for end := now.Add(d); now.Before(end); now = now.Add(step) {
		for _, inst := range w.nodes {
			inst.Tick(now)
			rd := inst.Ready()
			w.sent += records(rd)
			for _, a := range rd.Alarms {
				w.said[a.Code]++
			}
			for _, e := range rd.Messages {
				if far := w.far[inst][e.Link]; far != nil {
					far.Step(now, Received{w.names[inst][e.Link], e.Message})
				}
			}
		}
	}
}

// They are no neighbours: each sees records of its own that it has not sent.
func TestTwoNodesOfOneNameFarApartAreAlarmedAndBounded(t *testing.T) {
	w := line(t, "twin", "sr-1", "sr-2", "sr-3", "twin")
	w.nodes[0].Step(dawn, SetPrefixes{[]Prefix{{Prefix: dmsc.MustParsePrefix("a/1")}}})
	w.nodes[4].Step(dawn, SetPrefixes{[]Prefix{{Prefix: dmsc.MustParsePrefix("a/1")}, {Prefix: dmsc.MustParsePrefix("b/1")}}})
	w.run(10 * time.Minute)
	if w.said[AlarmOwnRecordNewer] == 0 || w.said[AlarmDuplicateNode] == 0 {
		t.Errorf("alarms %v", w.said)
	}
	w.sent = 0
	w.run(10 * time.Minute)
	if perMinute := w.sent / 10; perMinute > 200 {
		t.Errorf("%d records a minute are sent in a network of five", perMinute)
	}
	// The last one goes; within minutes the first one's records stand everywhere.
	last := w.nodes[4]
	w.nodes = w.nodes[:4]
	delete(w.far[w.nodes[3]], LinkKey{"twin", "0"})
	w.nodes[3].Step(w.nodes[3].now, StreamDown{LinkKey{"twin", "0"}})
	w.nodes[3].Step(w.nodes[3].now, Probed{Link: LinkKey{"twin", "0"}})
	w.run(3 * time.Minute)
	first := w.nodes[0]
	for _, inst := range w.nodes {
		if inst.db.sums != first.db.sums {
			t.Errorf("%s does not hold what the first twin holds", inst.cfg.Node)
		}
	}
	node := first.db.records[Key{"twin", TypeNode, 0}]
	if !node.mine || len(node.Content.(*NodeLSA).Links) != 1 || first.incarnation <= 2 || last.incarnation <= 2 {
		t.Errorf("the record of the first twin is %s %+v", node.Order, node.Content)
	}
	w.sent = 0
	w.run(5 * time.Minute)
	if w.sent > 20 {
		t.Errorf("%d records are sent after one of the twins has gone", w.sent)
	}
}

func TestWhatOthersWouldIgnoreIsNotOriginated(t *testing.T) {
	f := newFoe(t)
	var many []Prefix
	for n := 0; len(many) <= MaxPrefixes; n++ {
		if p := dmsc.MustParsePrefix(fmt.Sprint("a/", n)); Bucket(p) == 7 {
			many = append(many, Prefix{Prefix: p})
		}
	}
	key := Key{"sg-1", TypePrefix, 7}
	f.Step(f.now, SetPrefixes{many[:MaxPrefixes]})
	f.Ready()
	f.Step(f.now, SetPrefixes{many})
	if rd := f.Ready(); alarms(rd, AlarmRecordTooLarge) != 1 || len(f.db.records[key].Content.(*PrefixLSA).Prefixes) != MaxPrefixes {
		t.Errorf("alarms %v", rd.Alarms)
	}
}
