package linkstate

import (
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// The database exchange. From 3-way on both ends send a Digest. Each answers
// the other's first one by putting its records of the differing ranges into the
// pending set, and says Digest{Synced} once that set has been acknowledged.
// A link is Synced when it has been said both ways. Later digests travel with
// the keepalives and catch what flooding should never have lost.

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
	if !a.compared {
		a.compared = true
		i.pushDifferences(a, m.Sums)
	}
	a.heardSynced = a.heardSynced || m.Synced
	if a.phase() < StateSynced {
		return
	}
	// What differs now is usually still on its way.
	if len(a.out.pending) > 0 {
		a.differences = 0
		return
	}
	if [Ranges]uint64(m.Sums) == i.sums(a) {
		if a.differences = 0; !a.refusedForNow() {
			a.repairGap = 0
		}
		return
	}
	if a.differences++; a.differences <= 2 || i.now.Before(a.repairAt) {
		return
	}
	// One repair heals what two correct nodes differ in. A neighbour that has a
	// new digest for every keepalive gets ever fewer of them.
	if a.differences = 0; a.repairGap >= longestRepair {
		i.alarm(AlarmDifference, "%s has other records than this node, after all that differs was sent again and again: compare them with dmsc lsdb diff", a)
	}
	a.repairGap = min(max(2*a.repairGap, firstRepair), longestRepair)
	a.repairAt = i.now.Add(a.repairGap)
	clear(a.refused)
	i.pushDifferences(a, m.Sums)
}

// The times between two repairs for one neighbour, from which on it doubles and
// up to which.
const (
	firstRepair   = 3 * keepalive
	longestRepair = time.Minute
)

// pushDifferences puts our records of the ranges that differ into the pending
// set of a. Both ends do it, so both get what they miss; an older version is
// answered with the newer one.
func (i *Instance) pushDifferences(a *adjacency, theirs []uint64) {
	if i.cfg.Role == dmsc.RoleObserver {
		return
	}
	ours := i.sums(a)
	for l := range i.db.all().All() {
		r := i.db.records[l.Key]
		if theirs[r.slot] == ours[r.slot] {
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
		if a.threeWay && (a.phase() < StateSynced || len(a.out.pending) == 0) {
			i.sendDigest(a)
		}
	}
	if m := a.out.again(i.now); m != nil {
		i.send(a, m)
	}
}
