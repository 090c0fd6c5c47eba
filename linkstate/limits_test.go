package linkstate

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

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

func TestRefusedRecordsAreStubsInTheDigestsOfTheirSender(t *testing.T) {
	f := newFoe(t)
	theirs := func(held ...*LSA) []uint64 { // the digest of who holds them besides
		sums := f.db.sums
		for _, l := range held {
			r := newRecord("test", l)
			sums[r.slot] += r.sum
			if have := f.db.records[l.Key]; have != nil {
				sums[r.slot] -= have.sum
			}
		}
		return sums[:]
	}
	large, nonsense := f.lsa("sg-2", 3, 1, string(make([]byte, MaxBody+1))), f.lsa("sg-2", TypeNode, 9, "x")
	if rd := f.update(large, nonsense); alarms(rd, AlarmRecordTooLarge) != 1 || alarms(rd, AlarmMalformedRecord) != 1 {
		t.Errorf("alarms %v", rd.Alarms)
	}
	if f.db.records[large.Key] != nil || f.db.records[nonsense.Key] != nil {
		t.Error("taken in")
	}
	if !slices.Equal(f.digest(), theirs(large, nonsense)) {
		t.Error("the digest for the sender does not count what was refused")
	}
	if friend := f.sums(f.links[LinkKey{"friend", "0"}]); friend != f.db.sums {
		t.Error("the digest for another neighbour counts it too")
	}
	sent := 0
	for range 60 {
		sent += records(f.wait(time.Second)) + records(f.say(&Digest{Sums: f.digest(), Synced: true}))
	}
	if sent > 0 {
		t.Errorf("%d records were pushed although nothing differs", sent)
	}
	// A good version takes the place of the stub.
	good := f.lsa("sg-2", 3, 1, "small")
	good.Seq = 2
	f.update(good)
	if !slices.Equal(f.digest(), theirs(nonsense)) {
		t.Error("the stub outlives the good version")
	}
}

func TestAbsurdDigestsCostFewRepairs(t *testing.T) {
	f := newFoe(t)
	for n := range 100 {
		f.update(f.lsa(dmsc.NodeID(fmt.Sprint("n", n)), TypeNode, 0, "x"))
	}
	r := rand.New(rand.NewPCG(1, 1))
	all, alarmed := 0, 0
	const span = 10 * time.Minute
	for range int(span / (100 * time.Millisecond)) {
		sums := make([]uint64, Ranges)
		for n := range sums {
			sums[n] = r.Uint64()
		}
		for range 3 {
			rd := f.say(&Digest{Sums: sums, Synced: true})
			all, alarmed = all+records(rd), alarmed+alarms(rd, AlarmDifference)
			f.say(&LSAck{Seq: f.links[foeLink].out.seq})
		}
		rd := f.wait(100 * time.Millisecond)
		all, alarmed = all+records(rd), alarmed+alarms(rd, AlarmDifference)
		f.say(&LSAck{Seq: f.links[foeLink].out.seq})
	}
	// 3, 6, 12 … 60 s apart.
	if repairs := all / len(f.db.records); repairs < 3 || repairs > 16 {
		t.Errorf("%d records sent in %s, that is %d times the database", all, span, repairs)
	}
	if alarmed == 0 {
		t.Errorf("no alarm %s", AlarmDifference)
	}
}

// Whatever the order in which they come, and also when the low keys come last.
func TestRecordsOfOneOriginAboveTheLimitAreJudgedAlike(t *testing.T) {
	var all []uint32
	for n := range uint32(MaxOriginRecords + 500) {
		all = append(all, n)
	}
	var sums [][Ranges]uint64
	for seed := range uint64(3) {
		f := newFoe(t)
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
		if seed == 2 {
			slices.Sort(all)
			slices.Reverse(all)
		}
		alarmed := 0
		for _, n := range all {
			alarmed += alarms(f.update(f.lsa("sg-9", TypeAuth, n, "poa")), AlarmTooManyRecords)
		}
		if have := f.db.origins["sg-9"].records; have != MaxOriginRecords {
			t.Errorf("%d records of sg-9 are kept, want %d", have, MaxOriginRecords)
		}
		if alarmed == 0 || alarmed > 2*alarmBurst {
			t.Errorf("%d alarms", alarmed)
		}
		if len(f.links[foeLink].refused) > maxRefused {
			t.Errorf("%d stubs", len(f.links[foeLink].refused))
		}
		own := f.db.records[Key{"sg-1", TypeNode, 0}]
		if own != nil {
			f.db.remove(own)
		}
		sums = append(sums, f.db.sums)
	}
	if sums[0] != sums[1] || sums[1] != sums[2] {
		t.Error("the order of arrival has decided what is kept")
	}
}

// A database is as full of few large records as of many small ones.
func TestLargeRecordsFillTheDatabaseToo(t *testing.T) {
	f := newFoe(t, func(c *Config) { c.MaxRecords = 4000 })
	large := strings.Repeat("x", MaxBody)
	alarmed := 0
	for n := range 50 {
		alarmed += alarms(f.update(f.lsa(dmsc.NodeID(fmt.Sprint("x", n)), TypePrefix, 0, large)), AlarmDatabaseFull)
	}
	if n := len(f.db.records); n < 5 || n > 8 {
		t.Errorf("%d records of 256 KiB each, half of 4000 KiB are allowed", n)
	}
	if alarmed == 0 {
		t.Error("nobody was told")
	}
	// What is there may be withdrawn or replaced by what is no larger.
	newer := f.lsa("x1", TypePrefix, 0, strings.Repeat("y", MaxBody))
	newer.Seq = 2
	f.update(newer)
	if f.db.records[newer.Key].Seq != 2 {
		t.Error("a newer version of the same size was refused")
	}
	// What is small grows only while there is room.
	f.update(f.lsa("small", TypePrefix, 0, "x"))
	grown := f.lsa("small", TypePrefix, 0, large)
	grown.Seq = 2
	f.update(grown)
	if r := f.db.records[grown.Key]; r == nil || r.Seq != 1 {
		t.Errorf("%v: the small one stays as it was", r)
	}
	for _, r := range f.db.records {
		f.db.remove(r)
	}
	if f.db.size != 0 {
		t.Errorf("%d is left of an empty database", f.db.size)
	}
}

// A node that refuses a record for want of room, or by a clock that is wrong,
// gets it from its neighbours once there is a reason to take it in, and not only
// when its origin refreshes it.
func TestRecordsRefusedByTheClockAreAskedForAgain(t *testing.T) {
	f := newFoe(t)
	early := f.lsa("sg-2", TypeAuth, 1, "x")
	early.NotAfter = f.now.Add(MaxLifetime + MaxSkew + 10*time.Second)
	f.update(early)
	held := f.digest()
	if slices.Equal(held, f.db.sums[:]) {
		t.Error("what was refused is no stub")
	}
	f.wait(20 * time.Second)
	if !slices.Equal(f.digest(), f.db.sums[:]) {
		t.Error("what may be taken in by now is still a stub")
	}
	f.say(&Digest{Sums: held, Synced: true}) // the foe finds the difference too, and sends it
	if f.update(early); f.db.records[early.Key] == nil || len(f.links[foeLink].refused) > 0 {
		t.Error("the record is still refused")
	}
}

// A signature counts like a body. A neighbour ends the stream of an update that
// is larger than its transport takes, so foreign records must not add up to one.
func TestNoUpdateIsLargerThanABatchWhateverItIsMadeOf(t *testing.T) {
	f := newFoe(t)
	friend := LinkKey{"friend", "0"}
	f.Step(f.now, StreamUp{Link: friend})
	f.Step(f.now, Received{friend, &Hello{Domain: "test", Node: "friend", Link: "0", Role: dmsc.RoleSR, Session: 9, Seen: f.links[friend].session, Incarnation: 1, DataPlane: true}})
	f.Ready()
	var all []*LSA
	for n := range uint32(200) {
		l := f.lsa("sg-2", TypeAuth, n, "x")
		if l.Signature = make([]byte, 40<<10); n%2 == 0 {
			l.Tombstone, l.Body = true, nil
		}
		all = append(all, l)
	}
	sent := 0
	for _, e := range f.update(all...).Messages {
		u, ok := e.Message.(*LSUpdate)
		if !ok || e.Link != friend {
			continue
		}
		size := 0
		for _, l := range u.Records {
			size += l.bytes()
		}
		if sent += len(u.Records); size > batchBytes {
			t.Errorf("an update of %d records has %d bytes, a batch at most %d", len(u.Records), size, batchBytes)
		}
	}
	if sent == 0 {
		t.Error("nothing was sent")
	}
}

func TestInventedOriginsLeaveRoomForNewNodes(t *testing.T) {
	f := newFoe(t, func(c *Config) { c.MaxRecords = 1000 })
	f.update(f.node("foe", "sg-1"))
	alarmed := 0
	for n := range 5000 {
		alarmed += alarms(f.update(f.lsa(dmsc.NodeID(fmt.Sprint("x", n)), TypePrefix, 0, "x")), AlarmDatabaseFull)
	}
	if n := len(f.db.records); n > 501 {
		t.Errorf("%d records, half of 1000 are allowed", n)
	}
	if alarmed == 0 || alarmed > 2*alarmBurst {
		t.Errorf("%d alarms", alarmed)
	}
	// A new version of what is there still comes in, and so does a node that is
	// linked to, with its prefixes.
	newer := f.lsa("x1", TypePrefix, 0, "y")
	newer.Seq = 2
	f.update(newer)
	if f.db.records[newer.Key].Seq != 2 {
		t.Error("a newer version was refused")
	}
	prefixes := f.lsa("sr-2", TypePrefix, 1, "z")
	f.update(prefixes)
	if f.db.records[prefixes.Key] != nil {
		t.Error("taken in before any link leads to its node")
	}
	linked := f.node("foe", "sg-1", "sr-2")
	linked.Seq = 2
	f.update(linked)
	f.wait(time.Second)
	f.update(prefixes)
	f.update(f.node("sr-2", "foe"))
	if f.db.records[prefixes.Key] == nil || f.db.records[Key{"sr-2", TypeNode, 0}] == nil {
		t.Error("a new node that links lead to was kept out")
	}
	// Nobody goes beyond all of it.
	for n := range 5000 {
		f.update(f.lsa("sr-2", TypeAuth, uint32(n), "x"))
	}
	if n := len(f.db.records); n > 1000 {
		t.Errorf("%d records, 1000 are allowed", n)
	}
}

func TestAlarmsAreBoundedWhateverIsSent(t *testing.T) {
	f := newFoe(t)
	total := 0
	for n := range 1000 {
		var bad []*LSA
		for m := range 100 {
			bad = append(bad, nil, f.lsa(dmsc.NodeID(fmt.Sprintf("n%d-%d", n, m)), TypeNode, 1, ""), f.lsa(dmsc.NodeID(fmt.Sprintf("n%d-%d", n, m)), Type(n+9), 1, ""))
		}
		total += len(f.update(bad...).Alarms)
	}
	if total > 3*alarmBurst {
		t.Errorf("%d alarms in no time", total)
	}
	if len(f.alarmed) > maxTopics {
		t.Errorf("%d topics are remembered", len(f.alarmed))
	}
	f.wait(time.Minute)
	rd := f.update(nil)
	if len(rd.Alarms) != 1 {
		t.Errorf("a minute later: %v", rd.Alarms)
	}
}

func TestRecordsThatEndTooLateOrTooEarlyAreAlarmed(t *testing.T) {
	f := newFoe(t)
	for _, c := range []struct {
		left    time.Duration
		taken   bool
		alarmed int
	}{
		{MaxLifetime, true, 0},
		{MaxLifetime + MaxSkew, true, 0},
		{MaxLifetime + MaxSkew + time.Second, false, 1},
		{200 * 365 * 24 * time.Hour, false, 1},
		{time.Second, true, 0},
		{0, false, 0}, // died on its way
		{-MaxSkew, false, 0},
		{-MaxSkew - time.Second, false, 1},
	} {
		l := f.lsa("sg-9", TypeAuth, uint32(c.left/time.Second), "x")
		l.NotAfter = f.now.Add(c.left)
		rd := f.update(l)
		if taken := f.db.records[l.Key] != nil; taken != c.taken || alarms(rd, AlarmClock) != c.alarmed {
			t.Errorf("%s left: taken %t, alarms %v", c.left, taken, rd.Alarms)
		}
	}
}

// set moves the wall clock of a time and leaves its monotonic reading.
func set(t time.Time, by time.Duration) time.Time {
	type layout struct {
		wall uint64 // 1 bit monotonic, 33 bits of seconds, 30 of nanoseconds
		ext  int64
		loc  *time.Location
	}
	(*layout)(unsafe.Pointer(&t)).wall += uint64(by/time.Second) << 30
	return t
}

func TestSettingTheWallClockEndsNoRecord(t *testing.T) {
	for _, by := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		f := newFoe(t)
		now := time.Now()
		f.Tick(now)
		f.update(f.lsa("sg-9", TypeAuth, 1, "x"))
		key := Key{"sg-9", TypeAuth, 1}
		f.Ready()
		at := func(elapsed time.Duration) time.Time { return set(now.Add(elapsed), by) }
		f.Tick(at(time.Second))
		if rd := f.Ready(); alarms(rd, AlarmClock) != 1 || f.db.records[key] == nil {
			t.Errorf("clock set by %s: alarms %v, record %v", by, rd.Alarms, f.db.records[key])
		}
		f.Tick(at(MaxLifetime - time.Second))
		if rd := f.Ready(); len(rd.Alarms) != 0 || f.db.records[key] == nil {
			t.Errorf("clock set by %s, much later: alarms %v, record %v", by, rd.Alarms, f.db.records[key])
		}
		f.Tick(at(MaxLifetime + time.Second))
		if f.db.records[key] != nil {
			t.Errorf("clock set by %s: the record outlives its life", by)
		}
	}
}

// A neighbour that never acknowledges sends older and newer versions in turn,
// each of which puts our version into the pending set or out of it.
func TestQueuesOfAnOutboxAreBoundedByItsSet(t *testing.T) {
	f := newFoe(t)
	out := &f.links[foeLink].out
	for seq := uint64(10); seq < 20_000; seq += 2 {
		l := f.lsa("sg-9", TypeAuth, 1, "x")
		l.Seq = seq
		f.update(l)
		older := *l
		older.Seq = 1
		f.update(&older)
		f.update(l)
	}
	for u, q := range out.queues {
		if len(q) > 64+2*len(out.pending)+1 {
			t.Errorf("queue %d has %d keys, %d records are pending", u, len(q), len(out.pending))
		}
	}
	if len(out.pending) > len(f.db.records) || len(out.sent) > window {
		t.Errorf("%d pending, %d sent", len(out.pending), len(out.sent))
	}
}

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

// BenchmarkHostileRecord is what one record costs that a foe sends in updates
// of a hundred.
func BenchmarkHostileRecord(b *testing.B) {
	const batch = 100
	for _, c := range []struct {
		name string
		lsa  func(f *foe, n int) *LSA
	}{
		{"malformed", func(f *foe, n int) *LSA { return f.lsa("sg-9", TypeNode, 1, "x") }},
		{"too-large", func(f *foe, n int) *LSA { return f.lsa("sg-9", TypeAuth, 1, large) }},
		{"invented-origins", func(f *foe, n int) *LSA { return f.node(dmsc.NodeID(fmt.Sprint("x", n)), "y") }},
		{"versions-of-one-record", func(f *foe, n int) *LSA {
			l := f.node("sg-9", dmsc.NodeID(fmt.Sprint("x", n)))
			l.Seq = uint64(n + 1)
			return l
		}},
		{"ever-older", func(f *foe, n int) *LSA {
			l := f.node("sg-9", "x")
			l.Seq = uint64(1<<40 - n)
			return l
		}},
		{"our-own", func(f *foe, n int) *LSA {
			l := f.node("sg-1", "x")
			l.Seq = uint64(n + 100)
			return l
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := newFoe(b)
			records := make([]*LSA, 0, batch)
			for n := 0; b.Loop(); n++ {
				records = append(records, c.lsa(f, n))
				if len(records) == batch {
					f.update(records...)
					records = make([]*LSA, 0, batch)
					if n/batch%10 == 0 {
						f.wait(100 * time.Millisecond)
					}
				}
			}
		})
	}
}

var large = string(make([]byte, MaxBody+1))

// BenchmarkFullDatabase is the memory of a database that a foe has filled with
// invented origins, up to all that it takes in, in a process with nothing else.
func BenchmarkFullDatabase(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		f := newFoe(b)
		for n := range 1_000_000 {
			f.update(f.node(dmsc.NodeID(fmt.Sprint("x", n)), "y"))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
		b.ReportMetric(float64(len(f.db.records)), "records")
		if len(f.db.records) > DefaultMaxRecords {
			b.Fatal(len(f.db.records))
		}
	}
}
