package linkstate

import (
	"bytes"
	"cmp"
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"iter"
	"math"
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
	sum  uint64 // what the record adds to the digest of its range
	slot uint8  // its range
	mine bool   // originated in this life, not met again from an earlier one

	urgent urgency // when it was installed
	passed Covers  // it has been passed on by these
}

func newRecord(domain string, l *LSA) *record {
	r := &record{LSA: l}
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
	key = append(key, r.hash()...)
	key = append(key, domain...)
	sum := sha256.Sum256(key)
	r.sum = binary.BigEndian.Uint64(sum[:])
	return r
}

// hash is the SHA-256 of the body. It is not kept: two versions of one order are
// rare, and then mostly the same.
func (r *record) hash() []byte {
	sum := sha256.Sum256(r.Body)
	return sum[:]
}

// compareBodies orders by the SHA-256 of the bodies.
func (r *record) compareBodies(o *record) int {
	if bytes.Equal(r.Body, o.Body) {
		return 0
	}
	return bytes.Compare(r.hash(), o.hash())
}

// compare is the total order on versions of one record: (incarnation, seq),
// then the larger SHA-256 of the body. The rest decides between copies that
// only a broken origin can make, so that any two nodes still agree on one: a
// tombstone beats a live record, then the later end of life wins.
func (r *record) compare(o *record) int {
	if c := r.Order.Compare(o.Order); c != 0 {
		return c
	}
	tomb := 0
	if r.Tombstone != o.Tombstone {
		tomb = -1
		if r.Tombstone {
			tomb = 1
		}
	}
	return cmp.Or(r.compareBodies(o), tomb, cmp.Compare(r.NotAfter.Unix(), o.NotAfter.Unix()))
}

// nodeLSA returns what a NodeLSA says; nil if r is none, or a tombstone.
func (r *record) nodeLSA() *NodeLSA {
	if r == nil {
		return nil
	}
	n, _ := r.Content.(*NodeLSA)
	return n
}

// nodeLinks returns the links of a NodeLSA.
func (r *record) nodeLinks() []Link {
	if n := r.nodeLSA(); n != nil {
		return n.Links
	}
	return nil
}

// bytes is the part of a record that has no limit but MaxBody.
func (l *LSA) bytes() int { return len(l.Body) + len(l.Signature) }

// size is what the record counts in the database: each KiB like a record of its
// own.
func (r *record) size() int { return 1 + r.bytes()>>10 }

// conflicts reports whether two versions claim one order for two bodies.
func (r *record) conflicts(o *record) bool {
	return r.Order == o.Order && (!bytes.Equal(r.Body, o.Body) || r.Tombstone != o.Tombstone)
}

// database holds the newest version of every record.
type database struct {
	records map[Key]*record
	sums    [Ranges]uint64
	size    int // of all records together, see record.size
	origins map[dmsc.NodeID]origin
	timers  timers

	tree *btree.BTreeG[*LSA] // the same, sorted; all hands out copies
}

// origin is what the database knows of a node it holds records of.
type origin struct {
	records     int
	incarnation uint64 // the highest one met since the first of them came
}

func newDatabase() database {
	return database{
		records: make(map[Key]*record),
		origins: make(map[dmsc.NodeID]origin),
		tree:    newTree(),
	}
}

// put makes r the version of its record, whatever there was before. What is
// left of its life is taken by the wall clock now and counted down by elapsed
// time: a wall clock that is set ends no record.
func (d *database) put(now time.Time, r *record) {
	o := d.origins[r.Origin]
	if old := d.records[r.Key]; old != nil {
		d.sums[old.slot] -= old.sum
		d.size -= old.size()
	} else {
		o.records++
	}
	o.incarnation = max(o.incarnation, r.Incarnation)
	d.origins[r.Origin] = o
	d.records[r.Key] = r
	d.sums[r.slot] += r.sum
	d.size += r.size()
	d.tree.Set(r.LSA)
	d.schedule(now.Add(r.NotAfter.Sub(now)), timerExpire, r)
}

func (d *database) remove(r *record) {
	d.sums[r.slot] -= r.sum
	d.size -= r.size()
	delete(d.records, r.Key)
	d.tree.Delete(r.LSA)
	o := d.origins[r.Origin]
	if o.records--; o.records == 0 {
		delete(d.origins, r.Origin)
	} else {
		d.origins[r.Origin] = o
	}
}

// linksOf returns the links that a node advertises.
func (d *database) linksOf(id dmsc.NodeID) []Link {
	return d.records[Key{Origin: id, Type: TypeNode}].nodeLinks()
}

// walk yields the nodes to which links lead that both ends advertise, from some
// nodes on, which come first, and not over another one.
func (d *database) walk(not dmsc.NodeID, from []dmsc.NodeID) iter.Seq[dmsc.NodeID] {
	return func(yield func(dmsc.NodeID) bool) {
		seen := map[dmsc.NodeID]bool{not: true}
		next := slices.Clone(from)
		for len(next) > 0 {
			id := next[0]
			if next = next[1:]; seen[id] {
				continue
			}
			if seen[id] = true; !yield(id) {
				return
			}
			for _, l := range d.linksOf(id) {
				if !seen[l.Remote] && hasLink(d.linksOf(l.Remote), LinkKey{id, l.ID}) {
					next = append(next, l.Remote)
				}
			}
		}
	}
}

// last returns the record of an origin with the highest key, nil without any.
func (d *database) last(id dmsc.NodeID) *record {
	var last *record
	d.tree.Descend(&LSA{Key: Key{id, math.MaxUint16, math.MaxUint32}}, func(l *LSA) bool {
		if l.Origin == id {
			last = d.records[l.Key]
		}
		return false
	})
	return last
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

// timer is void when the database holds another version than the one with its
// sum. It keeps no version alive: those of a flood may be large.
type timer struct {
	at   time.Time
	kind timerKind
	key  Key
	sum  uint64
}

// of returns the record of a timer, nil if it is void.
func (d *database) of(t timer) *record {
	if r := d.records[t.key]; r != nil && r.sum == t.sum {
		return r
	}
	return nil
}

// schedule adds a timer. A record that is replaced leaves void ones behind:
// they are swept out when they are the most of all.
func (d *database) schedule(at time.Time, kind timerKind, r *record) {
	if len(d.timers) > 64+4*len(d.records) {
		d.timers = slices.DeleteFunc(d.timers, func(t timer) bool { return d.of(t) == nil })
		heap.Init(&d.timers)
	}
	heap.Push(&d.timers, timer{at, kind, r.Key, r.sum})
}

// due removes the next timer that is due and not void, and returns its record;
// nil if there is none.
func (d *database) due(now time.Time) (*record, timerKind) {
	for len(d.timers) > 0 && !d.timers[0].at.After(now) {
		t := heap.Pop(&d.timers).(timer)
		if r := d.of(t); r != nil {
			return r, t.kind
		}
	}
	return nil, 0
}

// next returns when the next timer is due, the zero time if there is none.
func (d *database) next() time.Time {
	for len(d.timers) > 0 {
		if t := d.timers[0]; d.of(t) != nil {
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
	return cmp.Or(t[i].at.Compare(t[j].at), t[i].key.Compare(t[j].key), cmp.Compare(t[i].kind, t[j].kind)) < 0
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)   { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	(*t)[len(*t)-1] = timer{}
	*t = (*t)[:len(*t)-1]
	return last
}
