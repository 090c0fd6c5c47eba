package linkstate

import (
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// The database exchange. From 3-way on both ends send a Digest. Each answers
// the other's first one by putting its records of the differing ranges into the
// pending set, and says Digest{Synced} once that set has been acknowledged.
// A link is Synced when it has been said both ways. Later digests travel with
// the keepalives and catch what flooding should never have lost (docs/adr/0010).

func (i *Instance) sendDigest(a *adjacency) {
	sums := i.sums(a)
	i.send(a, &Digest{Sums: sums[:], Synced: a.sentSynced})
}

func (i *Instance) onDigest(a *adjacency, m *Digest) {
	if a.phase() < StateExchange {
		return // its hello was lost; it says it again
	}
	if len(m.Sums) != Ranges {
		i.alarm(AlarmMalformedMessage, "%s sends a digest of %d ranges, %d are usual", a, len(m.Sums), Ranges)
		return
	}
	differ := differences([Ranges]uint64(m.Sums), i.sums(a))
	if !a.compared {
		a.compared = true
		i.pushRanges(a, differ)
	}
	a.heardSynced = a.heardSynced || m.Synced
	if a.phase() == StateSynced {
		i.repair(a, differ)
	}
}

// repair heals what flooding has lost. Something is always on its way in a large
// network, so only a range that differs in three digests in a row counts, and
// none that has pending records.
func (i *Instance) repair(a *adjacency, differ ranges) {
	if len(a.out.pending) > onTheirWay {
		a.differing = 0
		return
	}
	for _, p := range a.out.pending {
		differ.remove(p.rec.slot)
	}
	if a.differing > 0 {
		differ.intersect(a.differ)
	}
	if a.differ = differ; differ == (ranges{}) {
		if a.differing = 0; !a.refusedForNow() {
			a.repairGap = 0
		}
		return
	}
	if a.differing++; a.differing <= 2 || i.now.Before(a.repairAt) {
		return
	}
	// One repair heals what two correct nodes differ in. A neighbour that has a
	// new digest for every keepalive gets ever fewer of them.
	if a.differing = 0; a.repairGap >= longestRepair {
		i.alarm(AlarmDifference, "%s has other records than this node, after all that differs was sent again and again: compare them with dmsc lsdb diff", a)
	}
	a.repairGap = min(max(2*a.repairGap, firstRepair), longestRepair)
	a.repairAt = i.now.Add(a.repairGap)
	for k, s := range a.refused {
		if differ.has(s.slot) {
			delete(a.refused, k)
		}
	}
	i.pushRanges(a, differ)
}

// The times between two repairs for one neighbour, from which on it doubles and
// up to which.
const (
	firstRepair   = 3 * keepalive
	longestRepair = time.Minute
)

// onTheirWay is how many pending records are no reason not to compare digests.
const onTheirWay = 64

// ranges is a set of ranges of a Digest.
type ranges [Ranges / 64]uint64

func (s *ranges) has(r uint8) bool { return s[r/64]>>(r%64)&1 != 0 }
func (s *ranges) remove(r uint8)   { s[r/64] &^= 1 << (r % 64) }
func (s *ranges) intersect(t ranges) {
	for n := range s {
		s[n] &= t[n]
	}
}

// differences returns the ranges in which two digests differ.
func differences(theirs, ours [Ranges]uint64) (s ranges) {
	for r := range ours {
		if theirs[r] != ours[r] {
			s[r/64] |= 1 << (r % 64)
		}
	}
	return s
}

// pushRanges puts our records of some ranges into the pending set of a. Both
// ends do it, so both get what they miss; an older version is answered with the
// newer one.
func (i *Instance) pushRanges(a *adjacency, s ranges) {
	if i.cfg.Role == dmsc.RoleObserver || s == (ranges{}) {
		return
	}
	for l := range i.db.all().All() {
		r := i.db.records[l.Key]
		if !s.has(r.slot) {
			continue
		}
		if r.Type == TypeAuth {
			i.enqueue(a, r, urgentAuthorization)
		} else {
			i.enqueue(a, r, urgentAddition)
		}
	}
}

// exchanged says that our part of the exchange is done, once it is.
func (i *Instance) exchanged(a *adjacency) {
	if a.threeWay && a.compared && !a.sentSynced && len(a.out.pending) == 0 {
		a.sentSynced = true
		i.sendDigest(a)
	}
}

// converse repeats what the other end may have missed: hello and digest every
// keepalive, and more often until the exchange is done.
func (i *Instance) converse(a *adjacency) {
	if !a.stream {
		return
	}
	due := !i.now.Before(a.keepaliveAt)
	if due {
		a.keepaliveAt = i.now.Add(keepalive)
	}
	if a.phase() < StateSynced && !i.now.Before(a.greetAt) {
		due = true
		a.greetEvery = min(2*a.greetEvery, longestResend)
		a.greetAt = i.now.Add(a.greetEvery)
	}
	if due {
		i.stale = i.stale || len(a.out.pending) != a.shownPending
		i.sendHello(a)
		if a.threeWay && (a.phase() < StateSynced || len(a.out.pending) <= onTheirWay) {
			i.sendDigest(a)
		}
	}
	if m := a.out.again(i.now); m != nil {
		i.send(a, m)
	}
}
