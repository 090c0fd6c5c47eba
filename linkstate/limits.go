package linkstate

import (
	"fmt"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// Limits of one record. They look at the record alone, so every node judges
// alike; none of them depends on what came before or from whom.
//
// A record above MaxBody, or whose key, order or end of life makes no sense, is
// refused: no correct node originates one, so none but a broken neighbour holds
// it. A record whose body cannot be read or breaks one of the other limits is
// kept and flooded on like any other, and stands for nothing.
const (
	// MaxBody is the largest body of a record together with its signature, in
	// bytes. It has room for the links of a node with several thousand neighbours.
	MaxBody = 256 << 10
	// MaxLinks is how many links a NodeLSA may have.
	MaxLinks = 8192
	// MaxPrefixes is how many prefixes a PrefixLSA may have. With 256 of them
	// per node that is a quarter of a million, if they are spread evenly.
	MaxPrefixes = 1024
	// MaxSkew is how far the clocks of two nodes may be apart: a record that
	// ends later than this after the longest life is refused, and one that ended
	// earlier than this ago is an alarm. A node whose clock is slow by more loses
	// its records at the others before it refreshes them.
	MaxSkew = 20 * time.Minute
)

// tooMany says which of the limits on its lists a content breaks, "" if none.
func tooMany(c Content) string {
	switch c := c.(type) {
	case *NodeLSA:
		if n := len(c.Links); n > MaxLinks {
			return fmt.Sprintf("%d links, at most %d are allowed", n, MaxLinks)
		}
	case *PrefixLSA:
		if n := len(c.Prefixes); n > MaxPrefixes {
			return fmt.Sprintf("%d prefixes, at most %d are allowed", n, MaxPrefixes)
		}
	}
	return ""
}

// Limits of the database. A node that is over them keeps what it has.
const (
	// MaxOriginRecords is how many records of one origin count: those with the
	// lowest keys, whatever the order in which they come, so that all nodes keep
	// the same. NodeLSA and PrefixLSAs come first.
	MaxOriginRecords = 8192
	// DefaultMaxRecords is Config.MaxRecords if that is 0.
	DefaultMaxRecords = 1 << 18

	maxRefused = 256 // stubs kept per neighbour
)

// stub stands in the digests that we exchange with one neighbour for a record
// that it has sent and we have refused, so that the difference is no reason to
// send everything around it again (design §4: rejected records as stubs). It is
// not flooded: nobody else has the record from us.
//
// What was refused for want of room or by the clock may be taken in later: its
// stub ends, and the next repair brings the record again.
type stub struct {
	slot  uint8
	sum   uint64
	until time.Time // zero = for good
}

func (i *Instance) refuse(a *adjacency, r *record, until time.Time) {
	if _, again := a.refused[r.Key]; again || len(a.refused) < maxRefused {
		a.refused[r.Key] = stub{r.slot, r.sum, until}
	}
}

// refusedForNow reports whether a has sent what may be taken in later.
func (a *adjacency) refusedForNow() bool {
	for _, s := range a.refused {
		if !s.until.IsZero() {
			return true
		}
	}
	return false
}

// sums is the digest of our database as a should have it too.
func (i *Instance) sums(a *adjacency) [Ranges]uint64 {
	sums := i.db.sums
	for k, s := range a.refused {
		if !s.until.IsZero() && !i.now.Before(s.until) {
			delete(a.refused, k)
			continue
		}
		sums[s.slot] += s.sum
		if r := i.db.records[k]; r != nil {
			sums[s.slot] -= r.sum
		}
	}
	return sums
}

// room reports whether there is a place for a record, in that of the version we
// have, if any. Half of the database is kept for the origins that links lead
// to: who only invents names cannot keep a new node out.
func (i *Instance) room(a *adjacency, r, have *record) bool {
	if have != nil && r.size() <= have.size() {
		return true
	}
	n := i.db.size + r.size()
	if have != nil {
		n -= have.size()
	}
	if n > i.cfg.MaxRecords || n > i.cfg.MaxRecords/2 && !i.connected(r.Origin) {
		i.alarm(AlarmDatabaseFull, "%s sent %s of %d bytes: refused, the database is full (%d of at most %d records, each KiB counts as one), and half of it is kept for nodes that links lead to; find out who invents them with dmsc get lsdb", a, r.Key, len(r.Body), i.db.size, i.cfg.MaxRecords)
		return false
	}
	if have != nil || i.db.origins[r.Origin].records < MaxOriginRecords {
		return true
	}
	last := i.db.last(r.Origin)
	evict := r.Key.Compare(last.Key) < 0 && !last.mine
	out := r.Key
	if evict {
		out = last.Key
		i.drop(last)
	}
	i.alarm(AlarmTooManyRecords, "%s has more than %d records: %s counts no more", r.Origin, MaxOriginRecords, out)
	return evict
}

// connected reports whether a neighbour, or a node that links announced by both
// ends lead to, announces a link to a node. It is asked in a crowded database
// only, and its answer may be a second old.
func (i *Instance) connected(id dmsc.NodeID) bool {
	if i.reached != nil && i.now.Sub(i.reachedAt) < time.Second {
		return i.reached[id]
	}
	i.reached, i.reachedAt = map[dmsc.NodeID]bool{i.cfg.Node: true}, i.now
	neighbours := make([]dmsc.NodeID, 0, len(i.order))
	for _, a := range i.order {
		neighbours = append(neighbours, a.Remote)
	}
	for from := range i.db.walk(i.cfg.Node, neighbours) {
		i.reached[from] = true
		for _, l := range i.db.linksOf(from) {
			i.reached[l.Remote] = true
		}
	}
	return i.reached[id]
}
