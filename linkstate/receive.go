package linkstate

import (
	"fmt"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

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
	a.ackDue = true
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
	if l == nil {
		i.alarm(AlarmMalformedRecord, "%s sent an empty record", a)
		return
	}
	r := newRecord(i.cfg.Domain, l)
	have := i.db.records[l.Key]
	switch {
	case i.malformed(a, l):
		i.refuse(a, r, time.Time{})
		return
	case !i.alive(a, l) || !i.room(a, r, have):
		i.refuse(a, r, i.now.Add(max(a.repairGap, firstRepair)))
		return
	}
	delete(a.refused, l.Key)
	if l.Origin == i.cfg.Node {
		i.receiveOwn(a, r)
		return
	}
	if have != nil && have.conflicts(r) {
		i.alarm(AlarmConflict, "%s %s exists with the bodies %x and %x: %s may be running twice", l.Key, l.Order,
			have.hash()[:4], r.hash()[:4], l.Origin)
	}
	switch {
	case have == nil || r.compare(have) > 0:
		i.understand(r)
		i.install(r, a)
		a.out.settled(r)
	case r.compare(have) < 0:
		i.enqueue(a, have, urgentAddition) // the newer one goes back
	default:
		a.out.settled(r)
		i.repeated(a, have)
	}
}

// malformed reports what no correct node sends: an alarm has been raised.
func (i *Instance) malformed(a *adjacency, l *LSA) bool {
	if n := l.bytes(); n > MaxBody {
		i.alarm(AlarmRecordTooLarge, "%s sent %s with a body of %d bytes, at most %d are allowed", a, l.Key, n, MaxBody)
		return true
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
	return why != ""
}

// alive reports whether a record is within its life, by our clock.
func (i *Instance) alive(a *adjacency, l *LSA) bool {
	left := l.NotAfter.Sub(i.now)
	if left > MaxLifetime+MaxSkew || left < -MaxSkew {
		i.alarm(AlarmClock, "%s sent %s, whose life ends in %s, and no life is longer than %s: the clock of %s or of this node is wrong", a, l.Key, left.Round(time.Second), MaxLifetime, l.Origin)
		return false
	}
	return left > 0
}

// understand says once what a record holds that we cannot use.
func (i *Instance) understand(r *record) {
	switch r.Type {
	case TypeNode, TypePrefix, TypeAuth:
		if r.Content == nil && !r.Tombstone {
			i.alarmOnce(string(r.Origin), AlarmUndecodable, "%s %s cannot be read; it is flooded on and otherwise ignored, as others of this node may be", r.Key, r.Order)
		}
	default:
		i.alarmOnce(fmt.Sprintf("%s %d", r.Origin, r.Type), AlarmUnknownType, "%s sends records of type %d, which this version does not know; they are flooded on", r.Origin, r.Type)
	}
	if n, ok := r.Content.(*NodeLSA); ok && n != nil {
		i.compareAlgorithms(r.Origin, n)
	}
}
