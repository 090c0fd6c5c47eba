package linkstate

import (
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// Limits of flooding.
const (
	batchBytes    = 64 << 10 // bodies and signatures in one LSUpdate; a single record always fits
	batchRecords  = 1024     // tombstones have no bodies
	window        = 16       // LSUpdates on their way to a neighbour, unacknowledged
	maxAhead      = 1024     // how far a received LSUpdate may run ahead of a lost one
	firstResend   = 100 * time.Millisecond
	longestResend = time.Second
)

// outbox is the pending set of one neighbour: records it does not have yet as
// far as we know. Keyed by record, so a newer version replaces the older and
// the set is never larger than the database.
type outbox struct {
	pending map[Key]*parcel
	queues  [urgencies][]Key // may hold stale keys, skipped when they come up
	sent    []batch          // in order of seq, oldest first
	seq     uint64           // of the last LSUpdate
	resend  time.Time        // when the oldest of sent goes out again
	backoff time.Duration
}

// parcel is a record on its way.
type parcel struct {
	rec    *record
	urgent urgency
	seq    uint64 // of the LSUpdate that carries it; 0 = still queued
}

type batch struct {
	seq  uint64
	keys []Key
}

func newOutbox() outbox { return outbox{pending: make(map[Key]*parcel)} }

// add queues r unless a version at least as new is queued or on its way.
func (o *outbox) add(r *record, u urgency) {
	p := o.pending[r.Key]
	switch {
	case p == nil:
		p = &parcel{urgent: u}
		o.pending[r.Key] = p
	case p.rec.compare(r) >= 0:
		return
	case p.seq == 0 && p.urgent <= u:
		p.rec = r // keeps its place, which is the better one
		return
	}
	p.rec, p.urgent, p.seq = r, u, 0
	if q := o.queues[u]; len(q) > 64+2*len(o.pending) {
		o.queues[u] = o.compact(q)
	}
	o.queues[u] = append(o.queues[u], r.Key)
}

// compact leaves out of a queue the keys that are stale or come again: a
// neighbour that never acknowledges must not make it grow.
func (o *outbox) compact(queue []Key) []Key {
	seen := make(map[Key]bool, len(o.pending))
	return slices.DeleteFunc(queue, func(k Key) bool {
		again := seen[k]
		seen[k] = true
		return again || o.pending[k] == nil
	})
}

// settled forgets a record of which the neighbour has r or a newer version.
func (o *outbox) settled(r *record) {
	if p := o.pending[r.Key]; p != nil && p.rec.compare(r) <= 0 {
		delete(o.pending, r.Key)
	}
}

// pop returns the most urgent queued parcel without taking it.
func (o *outbox) pop() (*parcel, bool) {
	for u := range o.queues {
		for len(o.queues[u]) > 0 {
			p := o.pending[o.queues[u][0]]
			if p != nil && p.seq == 0 && p.urgent == urgency(u) {
				return p, true
			}
			o.queues[u] = o.queues[u][1:]
		}
		o.queues[u] = nil
	}
	return nil, false
}

// fill returns the next LSUpdate, nil when nothing is queued or the window is
// full.
func (o *outbox) fill(now time.Time) *LSUpdate {
	if len(o.sent) >= window {
		return nil
	}
	var m *LSUpdate
	var b batch
	for bytes := 0; ; {
		p, ok := o.pop()
		if !ok {
			break
		}
		bytes += p.rec.bytes()
		if m == nil {
			o.seq++
			m, b = &LSUpdate{Seq: o.seq}, batch{seq: o.seq}
		} else if bytes > batchBytes || len(b.keys) == batchRecords {
			break
		}
		o.queues[p.urgent] = o.queues[p.urgent][1:]
		p.seq = b.seq
		m.Records = append(m.Records, p.rec.LSA)
		b.keys = append(b.keys, p.rec.Key)
	}
	if m == nil {
		return nil
	}
	if len(o.sent) == 0 {
		o.backoff = firstResend
		o.resend = now.Add(o.backoff)
	}
	o.sent = append(o.sent, b)
	return m
}

// acked takes in a cumulative acknowledgement; false if it names an LSUpdate
// that was never sent.
func (o *outbox) acked(now time.Time, seq uint64) bool {
	if seq > o.seq {
		return false
	}
	for len(o.sent) > 0 && o.sent[0].seq <= seq {
		for _, k := range o.sent[0].keys {
			if p := o.pending[k]; p != nil && p.seq == o.sent[0].seq {
				delete(o.pending, k)
			}
		}
		o.sent = o.sent[1:]
		o.backoff = firstResend
		o.resend = now.Add(o.backoff)
	}
	return true
}

// again returns the oldest LSUpdate to be sent once more, nil if it is not time
// yet. It may be empty by now: its number is still needed by the cumulative
// acknowledgement. The later ones wait: the receiver keeps what ran ahead.
func (o *outbox) again(now time.Time) *LSUpdate {
	if len(o.sent) == 0 || now.Before(o.resend) {
		return nil
	}
	o.backoff = min(2*o.backoff, longestResend)
	o.resend = now.Add(o.backoff)
	m := &LSUpdate{Seq: o.sent[0].seq}
	for _, k := range o.sent[0].keys {
		if p := o.pending[k]; p != nil && p.seq == m.Seq {
			m.Records = append(m.Records, p.rec.LSA)
		}
	}
	return m
}

// news is a record installed in this turn that is to be flooded.
type news struct {
	rec    *record
	urgent urgency
	from   *adjacency // over which it came; nil = ourselves
	again  bool       // we had it already
}

// install makes r the version of its record and notes what follows from it.
func (i *Instance) install(r *record, from *adjacency) {
	old := i.db.records[r.Key]
	changed, urgent := difference(old, r)
	r.urgent = urgent
	if i.late(old, r, changed, urgent) {
		changed &^= ChangedTopology
		i.wait(r.Key)
	}
	i.db.put(i.now, r)
	i.noteChange(r.Key, changed)
	i.moveTopology(r.Key, old, r)
	i.verify(r)
	i.news = append(i.news, news{rec: r, urgent: urgent, from: from})
}

func (i *Instance) noteChange(k Key, changed Change) {
	if _, waits := i.good.keys[k]; !waits {
		i.changed[k] = struct{}{}
	}
	i.ready.Changed |= changed
	if changed&ChangedTopology != 0 && k.Origin != i.cfg.Node {
		i.moved = true
	}
	i.stale = true
}

// enqueue puts r into the pending set of a, if a has got as far as that.
func (i *Instance) enqueue(a *adjacency, r *record, u urgency) {
	if a.phase() < StateExchange || i.cfg.Role == dmsc.RoleObserver || i.starting && r.mine {
		return
	}
	a.out.add(r, u)
	i.touch(a)
}

// flood passes on what this turn has brought, never back to its sender.
// Withdrawals wait for the additions of the same turn, so that a prefix that
// moves is announced in its new place before it leaves the old one.
func (i *Instance) flood() {
	added := false
	for _, n := range i.news {
		added = added || n.urgent == urgentAddition && n.rec.Type == TypePrefix
	}
	reduced := len(i.news) > 0 && i.flooding() == FloodingReduced
	for _, n := range i.news {
		if i.db.records[n.rec.Key] != n.rec {
			continue // already replaced in the same turn
		}
		if added && n.urgent == urgentWithdrawal {
			n.urgent = urgentPlanned
		}
		i.passOn(n, reduced)
	}
	clear(i.news)
	i.news = i.news[:0]
}

// pump hands acknowledgements and as many LSUpdates as the windows allow to
// Ready.
func (i *Instance) pump() {
	for a := range i.eachTouched() {
		if a.ackDue {
			a.ackDue = false
			i.send(a, &LSAck{Seq: a.received})
		}
		for m := a.out.fill(i.now); m != nil; m = a.out.fill(i.now) {
			i.send(a, m)
		}
	}
}

func (i *Instance) send(a *adjacency, m Message) {
	i.ready.Messages = append(i.ready.Messages, Envelope{Link: a.LinkKey, Message: m})
}

func (i *Instance) onAck(a *adjacency, m *LSAck) {
	if a.phase() < StateExchange {
		return
	}
	if !a.out.acked(i.now, m.Seq) {
		i.alarm(AlarmMalformedMessage, "%s acknowledges update %d, the last one sent is %d", a, m.Seq, a.out.seq)
	}
}
