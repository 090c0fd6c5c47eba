package linkstate

import (
	"bytes"
	"cmp"
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"

	"github.com/tidwall/btree"

	"github.com/dmsc-mesh/dmsc"
)

// Ranges is the number of sums in a Digest. A record's range depends on its
// key alone.
const Ranges = 256

// record is an LSA in the database with what is derived from it once.
type record struct {
	*LSA
	hash [sha256.Size]byte // of Body
	sum  uint64            // what the record adds to the digest of its range
	slot uint8             // its range
	mine bool              // originated in this life, not met again from an earlier one
}

func newRecord(domain string, l *LSA) *record {
	r := &record{LSA: l, hash: sha256.Sum256(l.Body)}
	key := make([]byte, 0, 128)
	key = append(key, l.Origin...)
	key = append(key, 0)
	key = binary.BigEndian.AppendUint16(key, uint16(l.Type))
	key = binary.BigEndian.AppendUint32(key, l.Fragment)
	h := fnv.New64a()
	h.Write(key)
	s := h.Sum64()
	r.slot = uint8(s ^ s>>8 ^ s>>24 ^ s>>40)

	key = binary.BigEndian.AppendUint64(key, l.Incarnation)
	key = binary.BigEndian.AppendUint64(key, l.Seq)
	key = binary.BigEndian.AppendUint64(key, uint64(l.NotAfter.Unix()))
	if l.Tombstone {
		key = append(key, 1)
	}
	key = append(key, r.hash[:]...)
	key = append(key, domain...)
	sum := sha256.Sum256(key)
	r.sum = binary.BigEndian.Uint64(sum[:])
	return r
}

// compare is the total order on versions of one record: (incarnation, seq),
// then the larger SHA-256 of the body. The rest decides between copies that
// only a broken origin can make, so that any two nodes still agree on one: a
// tombstone beats a live record, then the later end of life wins.
func (r *record) compare(o *record) int {
	tomb := 0
	if r.Tombstone != o.Tombstone {
		tomb = -1
		if r.Tombstone {
			tomb = 1
		}
	}
	return cmp.Or(r.Order.Compare(o.Order), bytes.Compare(r.hash[:], o.hash[:]), tomb,
		cmp.Compare(r.NotAfter.Unix(), o.NotAfter.Unix()))
}

// conflicts reports whether two versions claim one order for two bodies.
func (r *record) conflicts(o *record) bool {
	return r.Order == o.Order && (r.hash != o.hash || r.Tombstone != o.Tombstone)
}

// database holds the newest version of every record.
type database struct {
	records map[Key]*record
	sums    [Ranges]uint64
	// incarnations is the highest incarnation ever met of each origin.
	incarnations map[dmsc.NodeID]uint64
	timers       timers

	tree *btree.BTreeG[*LSA] // the same, sorted; all hands out copies
}

func newDatabase() database {
	return database{
		records:      make(map[Key]*record),
		incarnations: make(map[dmsc.NodeID]uint64),
		tree:         newTree(),
	}
}

// put makes r the version of its record, whatever there was before.
func (d *database) put(r *record) {
	if old := d.records[r.Key]; old != nil {
		d.sums[old.slot] -= old.sum
	}
	d.records[r.Key] = r
	d.sums[r.slot] += r.sum
	d.incarnations[r.Origin] = max(d.incarnations[r.Origin], r.Incarnation)
	d.tree.Set(r.LSA)
	d.schedule(r.NotAfter, timerExpire, r)
}

func (d *database) remove(r *record) {
	d.sums[r.slot] -= r.sum
	delete(d.records, r.Key)
	d.tree.Delete(r.LSA)
}

// digest sums up everything that the database holds.
func (d *database) digest() (sum uint64) {
	for _, s := range d.sums {
		sum += s // a record counts in one range only, and by its own hash
	}
	return sum
}

// all returns a picture of every record that later changes leave alone.
func (d *database) all() Records { return Records{d.tree.Copy()} }

// timerKind says what is due on a record.
type timerKind uint8

const (
	timerExpire  timerKind = iota // NotAfter
	timerRefresh                  // half of an own record's lifetime
	timerLease                    // an adopted record was not announced again
)

type timer struct {
	at   time.Time
	kind timerKind
	rec  *record // the timer is void when the database holds another version
}

// schedule adds a timer. A record that is replaced leaves void ones behind,
// each holding the old version for up to its lifetime: they are swept out when
// they are the most of all.
func (d *database) schedule(at time.Time, kind timerKind, r *record) {
	if len(d.timers) > 64+4*len(d.records) {
		d.timers = slices.DeleteFunc(d.timers, func(t timer) bool { return d.records[t.rec.Key] != t.rec })
		heap.Init(&d.timers)
	}
	heap.Push(&d.timers, timer{at, kind, r})
}

// due removes and returns the next timer that is due and not void.
func (d *database) due(now time.Time) (timer, bool) {
	for len(d.timers) > 0 && !d.timers[0].at.After(now) {
		t := heap.Pop(&d.timers).(timer)
		if d.records[t.rec.Key] == t.rec {
			return t, true
		}
	}
	return timer{}, false
}

// next returns when the next timer is due, the zero time if there is none.
func (d *database) next() time.Time {
	for len(d.timers) > 0 {
		if t := d.timers[0]; d.records[t.rec.Key] == t.rec {
			return t.at
		}
		heap.Pop(&d.timers)
	}
	return time.Time{}
}

// timers is a heap by time; key and kind break ties for the sake of replay.
type timers []timer

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	return cmp.Or(t[i].at.Compare(t[j].at), t[i].rec.Key.Compare(t[j].rec.Key), cmp.Compare(t[i].kind, t[j].kind)) < 0
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)   { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	(*t)[len(*t)-1] = timer{}
	*t = (*t)[:len(*t)-1]
	return last
}
