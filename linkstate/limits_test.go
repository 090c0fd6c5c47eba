package linkstate

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/dmsc-mesh/dmsc"
)

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
