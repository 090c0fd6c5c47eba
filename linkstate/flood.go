package linkstate

import (
	"fmt"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// Limits of flooding.
const (
	// MaxBody is the largest body of a record, in bytes; a larger one is refused.
	MaxBody = 64 << 10

	batchBytes    = 64 << 10 // bodies in one LSUpdate; a single record always fits
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
	o.queues[u] = append(o.queues[u], r.Key)
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
		bytes += len(p.rec.Body)
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
	from   dmsc.NodeID // who sent it; "" = ourselves
}

// install makes r the version of its record and notes what follows from it.
func (i *Instance) install(r *record, from dmsc.NodeID) {
	old := i.db.records[r.Key]
	changed, urgent := difference(old, r)
	if changed&ChangedTopology != 0 && i.late(old, r) {
		changed &^= ChangedTopology
		i.wait(r.Key)
	}
	i.db.put(r)
	i.noteChange(r.Key, changed)
	i.news = append(i.news, news{r, urgent, from})
}

func (i *Instance) noteChange(k Key, changed Change) {
	i.changed[k] = struct{}{}
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
	i.stale = true
}

// flood passes on what was installed in this turn, never back to its sender.
// Withdrawals wait for the additions of the same turn, so that a prefix that
// moves is announced in its new place before it leaves the old one.
func (i *Instance) flood() {
	added := false
	for _, n := range i.news {
		added = added || n.urgent == urgentAddition && n.rec.Type == TypePrefix
	}
	for _, n := range i.news {
		if i.db.records[n.rec.Key] != n.rec {
			continue // already replaced in the same turn
		}
		if added && n.urgent == urgentWithdrawal {
			n.urgent = urgentPlanned
		}
		for _, a := range i.order {
			if a.Remote != n.from {
				i.enqueue(a, n.rec, n.urgent)
			}
		}
	}
	clear(i.news)
	i.news = i.news[:0]
}

// pump hands acknowledgements and as many LSUpdates as the windows allow to
// Ready.
func (i *Instance) pump() {
	for _, a := range i.order {
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
	i.stale = true
}

func (i *Instance) onUpdate(a *adjacency, m *LSUpdate) {
	if a.phase() < StateExchange {
		return // not acknowledged, so it comes again
	}
	if m.Seq == 0 || m.Seq > a.received && m.Seq-a.received > maxAhead {
		i.alarm(AlarmMalformedMessage, "%s sends update %d after %d", a, m.Seq, a.received)
		return
	}
	if m.Seq > a.received {
		a.ahead[m.Seq] = struct{}{}
		for _, ok := a.ahead[a.received+1]; ok; _, ok = a.ahead[a.received+1] {
			a.received++
			delete(a.ahead, a.received)
		}
	}
	a.ackDue, i.stale = true, true
	if a.observer && len(m.Records) > 0 {
		i.alarm(AlarmObserverRecord, "%s is an observer and sent %d records: refused", a, len(m.Records))
		return
	}
	for _, l := range m.Records {
		i.receive(a, l)
	}
}

// receive judges one record from a neighbour.
func (i *Instance) receive(a *adjacency, l *LSA) {
	if !i.acceptable(a, l) {
		return
	}
	if !l.NotAfter.After(i.now) {
		return // died on its way; ours dies by itself
	}
	r := newRecord(i.cfg.Domain, l)
	if l.Origin == i.cfg.Node {
		i.receiveOwn(a, r)
		return
	}
	have := i.db.records[l.Key]
	if have != nil && have.conflicts(r) {
		i.alarm(AlarmConflict, "%s %s exists with the bodies %x and %x: %s may be running twice", l.Key, l.Order,
			have.hash[:4], r.hash[:4], l.Origin)
	}
	switch {
	case have == nil || r.compare(have) > 0:
		i.understand(r)
		i.install(r, a.Remote)
		a.out.settled(r)
	case r.compare(have) < 0:
		i.enqueue(a, have, urgentAddition) // the newer one goes back
	default:
		a.out.settled(r)
	}
}

// acceptable refuses what no correct node sends. The rules depend on the record
// alone, so all nodes refuse the same.
func (i *Instance) acceptable(a *adjacency, l *LSA) bool {
	if l == nil {
		i.alarm(AlarmMalformedRecord, "%s sent an empty record", a)
		return false
	}
	if len(l.Body) > MaxBody {
		i.alarm(AlarmRecordTooLarge, "%s sent %s with a body of %d bytes, at most %d are allowed", a, l.Key, len(l.Body), MaxBody)
		return false
	}
	why := ""
	if _, err := dmsc.ParseNodeID(string(l.Origin)); err != nil {
		why = err.Error()
	}
	switch {
	case l.Incarnation == 0 || l.Incarnation >= MaxIncarnation:
		why = "incarnation out of range"
	case l.Seq == 0:
		why = "no sequence number"
	case l.Tombstone && (len(l.Body) > 0 || l.Content != nil):
		why = "a tombstone with a body"
	case l.Content != nil && l.Content.lsaType() != l.Type:
		why = "its body is of another type"
	case l.Type == TypeNode && l.Fragment != 0, l.Type == TypePrefix && l.Fragment >= Buckets:
		why = "fragment out of range"
	}
	if why != "" {
		i.alarm(AlarmMalformedRecord, "%s sent %s %s: %s", a, l.Key, l.Order, why)
	}
	return why == ""
}

// understand says once what a record holds that we cannot use.
func (i *Instance) understand(r *record) {
	switch r.Type {
	case TypeNode, TypePrefix, TypeAuth:
		if r.Content == nil && !r.Tombstone {
			i.alarmOnce(r.Key.String(), AlarmUndecodable, "%s %s cannot be read; it is flooded on and otherwise ignored", r.Key, r.Order)
		}
	default:
		i.alarmOnce(fmt.Sprintf("%s %d", r.Origin, r.Type), AlarmUnknownType, "%s sends records of type %d, which this version does not know; they are flooded on", r.Origin, r.Type)
	}
	if n, ok := r.Content.(*NodeLSA); ok && n != nil {
		i.compareAlgorithms(r.Origin, n)
	}
}
