package linkstate_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
)

var link = linkstate.LinkKey{Remote: "sr-1", ID: "0"}

func start(t testing.TB, links ...linkstate.LinkKey) *linkstate.Instance {
	t.Helper()
	return startWith(t, linkstate.Config{}, links...)
}

func startWith(t testing.TB, cfg linkstate.Config, links ...linkstate.LinkKey) *linkstate.Instance {
	t.Helper()
	cfg.Node, cfg.Domain, cfg.Role, cfg.Incarnation, cfg.Encode = "sg-1", "test", dmsc.RoleSG, 1, linkstatetest.Encode
	inst, err := linkstate.New(cfg, linkstatetest.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	var configs []linkstate.LinkConfig
	for _, k := range links {
		configs = append(configs, linkstate.LinkConfig{LinkKey: k, Metric: 10})
	}
	inst.Step(linkstatetest.Epoch, linkstate.SetLinks{Links: configs})
	inst.Tick(linkstatetest.Epoch)
	return inst
}

func TestConfigNamesAllFaultsAtOnce(t *testing.T) {
	_, err := linkstate.New(linkstate.Config{Node: "SG 1", Incarnation: linkstate.MaxIncarnation, Lifetime: time.Second, Hold: -1}, linkstatetest.Epoch)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, fault := range []string{"node id", "domain", "role", "incarnation", "Encode", "lifetime", "hold"} {
		if !strings.Contains(err.Error(), fault) {
			t.Errorf("%q is not mentioned in: %v", fault, err)
		}
	}
}

func TestBadLocalEventsLeaveEverythingAsItWas(t *testing.T) {
	inst := start(t, link)
	inst.Step(linkstatetest.Epoch, linkstate.SetPrefixes{Prefixes: []linkstate.Prefix{linkstatetest.Prefix("a/1")}})
	inst.Ready()
	before := linkstatetest.Describe(inst.View())
	for _, ev := range []linkstate.Event{
		linkstate.SetLinks{Links: []linkstate.LinkConfig{{LinkKey: link, Metric: 0}}},
		linkstate.SetLinks{Links: []linkstate.LinkConfig{{LinkKey: link, Metric: 1}, {LinkKey: link, Metric: 2}}},
		linkstate.SetLinks{Links: []linkstate.LinkConfig{{LinkKey: linkstate.LinkKey{Remote: "sg-1", ID: "0"}, Metric: 1}}},
		linkstate.SetPrefixes{Prefixes: []linkstate.Prefix{linkstatetest.Prefix("b/1"), linkstatetest.Prefix("b/1")}},
		linkstate.SetPrefixes{Prefixes: []linkstate.Prefix{{}}},
		linkstate.SetQuality{Link: link, Loss: math.NaN()},
		linkstate.SetDrain{Level: linkstate.DrainRemoved + 1},
		linkstate.SetAuthorizations{Authorizations: map[uint32]*linkstate.AuthLSA{7: {}}},
	} {
		inst.Step(linkstatetest.Epoch, ev)
		rd := inst.Ready()
		if len(rd.Alarms) != 1 || rd.Alarms[0].Code != linkstate.AlarmBadEvent {
			t.Errorf("%+v: alarms %v", ev, rd.Alarms)
		}
		if rd.Changed != 0 || linkstatetest.Describe(inst.View()) != before {
			t.Errorf("%+v: changed something", ev)
		}
	}
}

func TestViewIsCachedUntilSomethingChangesAndNeverWritten(t *testing.T) {
	inst := start(t)
	inst.Step(linkstatetest.Epoch, linkstate.SetPrefixes{Prefixes: []linkstate.Prefix{linkstatetest.Prefix("a/1"), linkstatetest.Prefix("b/1")}})
	v := inst.View()
	if inst.View() != v {
		t.Error("a second View is another one, though nothing has happened")
	}
	before := linkstatetest.Describe(v)
	inst.Step(linkstatetest.Epoch, linkstate.SetPrefixes{Prefixes: []linkstate.Prefix{linkstatetest.Prefix("c/1")}})
	if inst.View() == v {
		t.Error("a change gave the same View")
	}
	if linkstatetest.Describe(v) != before {
		t.Error("an old View has changed")
	}
}

// synced brings sg-1's link to Synced by playing the other end, and returns a
// function that hands it a message and returns what it answers.
func synced(inst *linkstate.Instance, now time.Time) func(linkstate.Message) []linkstate.Message {
	tell := func(m linkstate.Message) []linkstate.Message {
		inst.Step(now, linkstate.Received{Link: link, Message: m})
		var out []linkstate.Message
		for _, e := range inst.Ready().Messages {
			out = append(out, e.Message)
		}
		return out
	}
	inst.Step(now, linkstate.StreamUp{Link: link})
	session := inst.Ready().Messages[0].Message.(*linkstate.Hello).Session
	hello := &linkstate.Hello{Domain: "test", Node: "sr-1", Link: "0", Role: dmsc.RoleSR, Session: 7, Seen: session, Incarnation: 1, DataPlane: true}
	tell(hello)
	tell(&linkstate.Digest{Sums: make([]uint64, linkstate.Ranges)})
	inst.Step(now, linkstate.Probed{Link: link, OK: true, Peer: "sr-1", RTT: time.Millisecond})
	inst.Ready()
	tell(&linkstate.Digest{Sums: make([]uint64, linkstate.Ranges), Synced: true})
	return tell
}

// Without it the second end of a healed link would wait for its next regular
// probe, and the link with it.
func TestALinkThatItsFarEndAdvertisesIsProbedAtOnce(t *testing.T) {
	inst, now := start(t, link), linkstatetest.Epoch
	synced(inst, now)
	seq := uint64(0)
	probes := func(links ...linkstate.Link) int {
		inst.Ready()
		seq++
		c := &linkstate.NodeLSA{Role: dmsc.RoleSR, Transit: true, Links: links}
		inst.Step(now, linkstate.Received{Link: link, Message: &linkstate.LSUpdate{Seq: seq, Records: []*linkstate.LSA{{
			Key: linkstate.Key{Origin: "sr-1", Type: linkstate.TypeNode}, Order: linkstate.Order{Incarnation: 1, Seq: seq},
			NotAfter: now.Add(linkstate.MaxLifetime), Body: linkstatetest.Encode(c), Content: c,
		}}}})
		return len(inst.Ready().Probe)
	}
	toUs := linkstate.Link{Remote: "sg-1", ID: "0", Metric: 10}
	if n := probes(toUs); n != 0 {
		t.Errorf("%d probes of a link that is alive", n)
	}
	for range 3 {
		inst.Step(now, linkstate.Probed{Link: link})
	}
	if n := probes(linkstate.Link{Remote: "sg-2", ID: "0", Metric: 10}); n != 0 {
		t.Errorf("%d probes of a dead link that is not advertised", n)
	}
	if n := probes(toUs); n != 1 {
		t.Errorf("%d probes of a dead link that its far end advertises, want 1", n)
	}
}

// fill announces n records with bodies of about size bytes at an Instance that
// has no neighbour yet.
func fill(inst *linkstate.Instance, now time.Time, n, size int) {
	var ps []linkstate.Prefix
	used := make(map[uint32]bool)
	for k := 0; len(ps) < n; k++ {
		p := linkstatetest.Prefix(fmt.Sprintf("a/%d", k))
		if b := linkstate.Bucket(p.Prefix); !used[b] {
			used[b] = true
			p.Attributes = []string{"pad=" + strings.Repeat("x", size)}
			ps = append(ps, p)
		}
	}
	inst.Step(now, linkstate.SetPrefixes{Prefixes: ps})
	inst.Ready()
}

func TestUpdatesAreBatchedWindowedAndResentUntilAcknowledged(t *testing.T) {
	now := linkstatetest.Epoch
	inst := start(t, link)
	fill(inst, now, 60, 30<<10) // 2 in 64 KiB, so 30 batches
	tell := synced(inst, now)
	v := inst.View()
	if !v.Synced || v.Adjacencies[0].Pending != 61 {
		t.Fatalf("synced %t, %d records pending, want 61", v.Synced, v.Adjacencies[0].Pending)
	}
	// The first window has left; nothing more leaves without an acknowledgement.
	acked := uint64(0)
	take := func(ms []linkstate.Message) (updates int) {
		for _, m := range ms {
			u, ok := m.(*linkstate.LSUpdate)
			if !ok {
				continue
			}
			updates++
			bytes := 0
			for _, l := range u.Records {
				bytes += len(l.Body)
			}
			if bytes > 64<<10 {
				t.Errorf("update %d has %d bytes of bodies", u.Seq, bytes)
			}
			acked = max(acked, u.Seq)
		}
		return updates
	}
	// Resends: the oldest alone, 100 ms, 200, 400, 800, then every second.
	var at []time.Duration
	for range 400 {
		now = now.Add(10 * time.Millisecond)
		inst.Tick(now)
		for _, e := range inst.Ready().Messages {
			if u, ok := e.Message.(*linkstate.LSUpdate); ok {
				at = append(at, now.Sub(linkstatetest.Epoch))
				if u.Seq != 1 {
					t.Errorf("update %d is sent again before the first is acknowledged", u.Seq)
				}
			}
		}
	}
	want := []time.Duration{100, 300, 700, 1500, 2500, 3500}
	for n := range want {
		want[n] *= time.Millisecond
	}
	if !slices.Equal(at, want) {
		t.Errorf("sent again at %v, want %v", at, want)
	}
	// Acknowledging the window of 16 lets the rest go.
	rest := take(tell(&linkstate.LSAck{Seq: 16}))
	if rest == 0 || rest > 16 {
		t.Errorf("%d updates follow the acknowledgement of a window", rest)
	}
	take(tell(&linkstate.LSAck{Seq: acked}))
	tell(&linkstate.LSAck{Seq: acked})
	if p := inst.View().Adjacencies[0].Pending; p != 0 {
		t.Errorf("%d records still pending", p)
	}
}

func TestUpdatesThatRunAheadAreNotAcknowledgedBeforeTheLostOne(t *testing.T) {
	inst := start(t, link)
	tell := synced(inst, linkstatetest.Epoch)
	record := func(fragment uint32) []*linkstate.LSA {
		return []*linkstate.LSA{{
			Key: linkstate.Key{Origin: "sg-9", Type: 99, Fragment: fragment}, Order: linkstate.Order{Incarnation: 1, Seq: 1},
			NotAfter: linkstatetest.Epoch.Add(time.Hour), Body: []byte{1},
		}}
	}
	for _, step := range []struct{ seq, ack uint64 }{{2, 0}, {4, 0}, {1, 2}, {1, 2}, {3, 4}} {
		out := tell(&linkstate.LSUpdate{Seq: step.seq, Records: record(uint32(step.seq))})
		n := slices.IndexFunc(out, func(m linkstate.Message) bool { _, ok := m.(*linkstate.LSAck); return ok })
		if n < 0 || out[n].(*linkstate.LSAck).Seq != step.ack {
			t.Errorf("update %d is answered by %v, want an acknowledgement of %d", step.seq, out, step.ack)
		}
	}
}

func TestIncarnationIsReadyTogetherWithTheMessagesThatUseIt(t *testing.T) {
	inst := start(t, link)
	now := linkstatetest.Epoch
	inst.Step(now, linkstate.StreamUp{Link: link})
	session := inst.Ready().Messages[0].Message.(*linkstate.Hello).Session
	inst.Step(now, linkstate.Received{Link: link, Message: &linkstate.Hello{
		Domain: "test", Node: "sr-1", Link: "0", Role: dmsc.RoleSR, Session: 7, Seen: session, Incarnation: 1, Held: 41, DataPlane: true,
	}})
	rd := inst.Ready()
	if rd.Incarnation != 42 || inst.View().Incarnation != 42 {
		t.Errorf("incarnation %d, want 42: one more than the neighbour holds", rd.Incarnation)
	}
	if h := rd.Messages[0].Message.(*linkstate.Hello); h.Incarnation != 42 {
		t.Errorf("the hello beside it says %d", h.Incarnation)
	}
}

func TestSameEventsGiveTheSameOutput(t *testing.T) {
	run := func() string {
		var b strings.Builder
		s := linkstatetest.NewNetwork(5)
		s.OnMessage = func(from dmsc.NodeID, e linkstate.Envelope) { fmt.Fprintf(&b, "%s %s %+v\n", from, e.Link, e.Message) }
		s.OnReady = func(id dmsc.NodeID, rd linkstate.Ready) { rd.Messages = nil; fmt.Fprintf(&b, "%s %+v\n", id, rd) }
		for n := range 6 {
			s.AddNode(dmsc.NodeID(fmt.Sprintf("n%d", n)), dmsc.RoleSR)
			for m := range n {
				s.AddLink(dmsc.NodeID(fmt.Sprintf("n%d", m)), dmsc.NodeID(fmt.Sprintf("n%d", n)), linkstatetest.Link{Loss: 0.1, Reorder: 0.1})
			}
			for p := range 20 {
				s.Announce(dmsc.NodeID(fmt.Sprintf("n%d", n)), linkstatetest.Prefix(fmt.Sprintf("f/%d", p)))
			}
		}
		s.Run(time.Second)
		s.Kill("n3")
		s.Run(time.Second)
		s.RestartBlank("n3")
		s.Run(2 * time.Second)
		return b.String()
	}
	pointers := func(s string) string { // messages print records as addresses
		var out []string
		for f := range strings.FieldsSeq(s) {
			if !strings.Contains(f, "0x") {
				out = append(out, f)
			}
		}
		return strings.Join(out, " ")
	}
	if first, second := pointers(run()), pointers(run()); first != second {
		t.Error("two runs differ")
	}
}

// FuzzStep feeds an Instance events that make no sense: it must not panic, its
// Deadline must not stand still, and neither its database nor a pending set nor
// the alarms of a turn may grow beyond their bounds.
func FuzzStep(f *testing.F) {
	for n := range 8 {
		f.Add(bytes.Repeat([]byte{byte(n * 37), byte(n), 0x5a, byte(255 - n)}, 60))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		const most = 20 // records of others
		inst := startWith(t, linkstate.Config{MaxRecords: most}, link, linkstate.LinkKey{Remote: "sr-2", ID: "0"}, linkstate.LinkKey{Remote: "sr-2", ID: "1"})
		now := linkstatetest.Epoch
		g := &gibberish{data: data}
		var session uint64
		for range 200 {
			if len(g.data) == 0 {
				break
			}
			inst.Step(now, g.event(now, session))
			rd := inst.Ready()
			for _, e := range rd.Messages {
				if h, ok := e.Message.(*linkstate.Hello); ok {
					session = h.Session
				}
			}
			v := inst.View()
			if n := v.Records.Len(); n > most+1+linkstate.Buckets {
				t.Fatalf("%d records", n)
			}
			for _, a := range v.Adjacencies {
				if a.Pending > v.Records.Len() {
					t.Fatalf("%s: %d of %d records are pending", a.LinkKey, a.Pending, v.Records.Len())
				}
			}
			if len(rd.Alarms) > 100 {
				t.Fatalf("%d alarms in one turn", len(rd.Alarms))
			}
			if why := inst.Unfinished(); why != "" {
				t.Fatal(why)
			}
			now = now.Add(time.Duration(g.byte()) * time.Duration(g.byte()) * time.Millisecond)
			for range 50 { // Tick as a driver would, at its Deadline
				at := inst.Deadline()
				if at.IsZero() || at.After(now) {
					break
				}
				inst.Tick(now)
				inst.Ready()
				if again := inst.Deadline(); !again.IsZero() && !again.After(now) {
					t.Fatalf("after Tick(%s) the Deadline is %s", now, again)
				}
			}
		}
	})
}

var tooLarge = make([]byte, linkstate.MaxBody+1)

// gibberish turns bytes into events.
type gibberish struct{ data []byte }

func (g *gibberish) byte() byte {
	if len(g.data) == 0 {
		return 0
	}
	b := g.data[0]
	g.data = g.data[1:]
	return b
}

func (g *gibberish) word() uint64 {
	var b [8]byte
	if g.byte()%4 == 0 {
		g.data = g.data[copy(b[:], g.data):]
		return binary.BigEndian.Uint64(b[:])
	}
	return uint64(g.byte() % 4)
}

func (g *gibberish) node() dmsc.NodeID {
	return [...]dmsc.NodeID{"sg-1", "sr-1", "sr-1", "sr-2", "scsc", "", "NOT A NODE"}[g.byte()%7]
}

func (g *gibberish) link() linkstate.LinkKey {
	return linkstate.LinkKey{Remote: g.node(), ID: [...]dmsc.LinkID{"0", "0", "1", ""}[g.byte()%4]}
}

func (g *gibberish) event(now time.Time, session uint64) linkstate.Event {
	switch g.byte() % 12 {
	case 0:
		return linkstate.StreamUp{Link: g.link(), Observer: g.byte()%4 == 0}
	case 1:
		return linkstate.StreamDown{Link: g.link()}
	case 2:
		return linkstate.Probed{Link: g.link(), OK: g.byte()%2 == 0, Peer: g.node(), RTT: time.Duration(g.word())}
	case 3:
		return linkstate.DataPlane{Up: g.byte()%2 == 0}
	case 4:
		return linkstate.SetLinks{Links: []linkstate.LinkConfig{{LinkKey: g.link(), Metric: dmsc.Metric(g.word())}}}
	case 5:
		return linkstate.SetPrefixes{Prefixes: []linkstate.Prefix{linkstatetest.Prefix(fmt.Sprintf("a/%d", g.byte()))}}
	case 6:
		return linkstate.SetQuality{Link: g.link(), Delay: time.Duration(g.word()), Loss: math.Float64frombits(g.word())}
	case 7:
		return linkstate.SetDrain{Level: linkstate.Drain(g.byte() % 4)}
	case 8:
		return linkstate.SetAuthorizations{Authorizations: map[uint32]*linkstate.AuthLSA{uint32(g.word()): {POA: []byte{g.byte()}}}}
	}
	return linkstate.Received{Link: g.link(), Message: g.message(now, session)}
}

func (g *gibberish) message(now time.Time, session uint64) linkstate.Message {
	switch g.byte() % 9 {
	case 0, 1, 2:
		h := &linkstate.Hello{
			Domain: "test", Node: g.node(), Role: dmsc.Role(g.byte() % 5), Link: "0",
			Session: g.word(), Seen: g.word(), Incarnation: g.word(), Held: g.word(), DataPlane: g.byte()%4 != 0,
		}
		if g.byte()%2 == 0 {
			h.Seen = session
		}
		return h
	case 3:
		return &linkstate.LSAck{Seq: g.word()}
	case 4:
		return &linkstate.Digest{Sums: make([]uint64, [...]int{linkstate.Ranges, 0, 1}[g.byte()%3]), Synced: g.byte()%2 == 0}
	case 5:
		return [...]linkstate.Message{nil, (*linkstate.Hello)(nil), (*linkstate.LSUpdate)(nil), (*linkstate.LSAck)(nil), (*linkstate.Digest)(nil)}[g.byte()%5]
	}
	u := &linkstate.LSUpdate{Seq: g.word()}
	for range g.byte() % 4 {
		l := &linkstate.LSA{
			Key:      linkstate.Key{Origin: g.node(), Type: linkstate.Type(g.word()), Fragment: uint32(g.word())},
			Order:    linkstate.Order{Incarnation: g.word(), Seq: g.word()},
			NotAfter: now.Add(time.Duration(int8(g.byte())) * time.Minute), Tombstone: g.byte()%4 == 0,
		}
		if g.byte()%4 == 0 {
			l.Origin = dmsc.NodeID(fmt.Sprintf("x%d", g.byte()))
		}
		switch g.byte() % 9 {
		case 6:
			l.NotAfter = time.Unix(int64(g.word()), 0)
		case 7:
			l.Body = tooLarge
		case 8:
			l.Fragment, l.Seq, l.Incarnation = math.MaxUint32, math.MaxUint64, linkstate.MaxIncarnation-1
		case 0:
			l.Content = &linkstate.NodeLSA{Links: []linkstate.Link{{Remote: g.node(), ID: "0", Metric: dmsc.Metric(g.word())}}}
		case 1:
			l.Content = &linkstate.PrefixLSA{Prefixes: []linkstate.Prefix{{}}}
		case 2:
			l.Content = (*linkstate.NodeLSA)(nil)
		case 3:
			l.Body = []byte{g.byte()}
		case 4:
			l = nil
		}
		u.Records = append(u.Records, l)
	}
	return u
}
