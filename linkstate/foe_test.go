package linkstate

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

var dawn = time.Unix(1_700_000_000, 0)

// foe is a neighbour that says what the test wants, to an Instance whose link
// to it is synchronized.
type foe struct {
	*Instance
	t   testing.TB
	seq uint64
}

var foeLink = LinkKey{"foe", "0"}

func newFoe(t testing.TB, change ...func(*Config)) *foe {
	t.Helper()
	cfg := Config{Node: "sg-1", Domain: "test", Role: dmsc.RoleSG, Incarnation: 1, Encode: func(c Content) []byte {
		b, _ := json.Marshal(c)
		return b
	}}
	for _, f := range change {
		f(&cfg)
	}
	inst, err := New(cfg, dawn)
	if err != nil {
		t.Fatal(err)
	}
	f := &foe{Instance: inst, t: t}
	inst.Step(dawn, SetLinks{[]LinkConfig{{LinkKey: foeLink, Metric: 10}, {LinkKey: LinkKey{"friend", "0"}, Metric: 10}}})
	inst.Step(dawn, StreamUp{Link: foeLink})
	f.say(&Hello{Domain: "test", Node: "foe", Link: "0", Role: dmsc.RoleSR, Session: 7, Seen: f.links[foeLink].session, Incarnation: 1, DataPlane: true})
	f.say(&Digest{Sums: make([]uint64, Ranges), Synced: true})
	f.wait(time.Second) // the end of the start-up
	f.say(&LSAck{Seq: f.links[foeLink].out.seq})
	if s := f.links[foeLink].phase(); s != StateSynced {
		t.Fatalf("the link to the foe is %s", s)
	}
	return f
}

// say hands the Instance a message and returns what it wants done.
func (f *foe) say(m Message) Ready {
	f.Step(f.now, Received{foeLink, m})
	return f.Ready()
}

func (f *foe) update(records ...*LSA) Ready {
	f.seq++
	return f.say(&LSUpdate{Seq: f.seq, Records: records})
}

// wait lets time pass and returns all that the Instance wants done meanwhile.
func (f *foe) wait(d time.Duration) (all Ready) {
	for end := f.now.Add(d); ; {
		at := f.Deadline()
		if at.IsZero() || at.After(end) {
			at = end
		}
		f.Tick(at)
		rd := f.Ready()
		all.Messages, all.Alarms = append(all.Messages, rd.Messages...), append(all.Alarms, rd.Alarms...)
		if !at.Before(end) {
			return all
		}
	}
}

// digest is what the Instance says to the foe when asked.
func (f *foe) digest() []uint64 {
	sums := f.sums(f.links[foeLink])
	return sums[:]
}

func (f *foe) lsa(origin dmsc.NodeID, typ Type, fragment uint32, body string) *LSA {
	return &LSA{Key: Key{origin, typ, fragment}, Order: Order{1, 1}, NotAfter: f.now.Add(MaxLifetime), Body: []byte(body)}
}

func (f *foe) node(origin dmsc.NodeID, remotes ...dmsc.NodeID) *LSA {
	n := &NodeLSA{Role: dmsc.RoleSR}
	for _, r := range remotes {
		n.Links = append(n.Links, Link{Remote: r, ID: "0", Metric: 1})
	}
	l := f.lsa(origin, TypeNode, 0, fmt.Sprint(remotes))
	l.Content = n
	return l
}

func alarms(rd Ready, code string) (n int) {
	for _, a := range rd.Alarms {
		if a.Code == code {
			n++
		}
	}
	return n
}

func records(rd Ready) (n int) {
	for _, e := range rd.Messages {
		if u, ok := e.Message.(*LSUpdate); ok {
			n += len(u.Records)
		}
	}
	return n
}
