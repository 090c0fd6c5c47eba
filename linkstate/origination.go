package linkstate

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// MaxLifetime is the longest life of a record and the life of every tombstone.
const MaxLifetime = time.Hour

// Origination is damped per record: a burst, then a rate. Bad news never waits.
const (
	originateBurst = 10
	originateRate  = 10 // per second
)

// wanted is one record as we want it to be: rebuilt, then compared with the one
// in the database.
type wanted struct {
	content Content
	body    []byte
}

// bucket is the token bucket of one own record.
type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) fill(now time.Time) {
	b.tokens = min(originateBurst, b.tokens+now.Sub(b.at).Seconds()*originateRate)
	b.at = now
}

// want sets or, with nil content, clears what a record should hold.
func (i *Instance) want(k Key, c Content) {
	if c == nil {
		delete(i.wants, k)
		i.dirty[k] = struct{}{}
		return
	}
	if why := tooMany(c); why != "" {
		i.alarm(AlarmRecordTooLarge, "%s would have %s: it stays as it was", k, why)
		return
	}
	body := i.cfg.Encode(c)
	if len(body) > MaxBody {
		i.alarm(AlarmRecordTooLarge, "%s would have a body of %d bytes, at most %d are allowed: it stays as it was; announce fewer services with this node or shorter attributes", k, len(body), MaxBody)
		return
	}
	i.wants[k] = wanted{c, body}
	i.dirty[k] = struct{}{}
}

// wantNode rebuilds the NodeLSA from the adjacencies.
func (i *Instance) wantNode() {
	if !i.nodeDirty || i.cfg.Role == dmsc.RoleObserver {
		return
	}
	i.nodeDirty = false
	n := &NodeLSA{Role: i.cfg.Role, Transit: i.cfg.Transit && i.drain == DrainNone && !i.starting, Algorithm: i.cfg.Algorithm, Avoid: i.cfg.Avoid}
	for _, a := range i.order {
		if a.state < StateFull {
			continue
		}
		l := Link{
			Remote: a.Remote, ID: a.ID, Metric: i.metric(a),
			Delay: a.quality.Delay, Jitter: a.quality.Jitter, Loss: a.quality.Loss,
			Capacity: cmp.Or(a.quality.Capacity, a.Capacity), Available: a.quality.Available,
			Tags: a.Tags,
		}
		n.Links = append(n.Links, l)
	}
	i.want(i.nodeKey(), n)
}

func (i *Instance) nodeKey() Key { return Key{Origin: i.cfg.Node, Type: TypeNode} }

func (i *Instance) onSetPrefixes(ev SetPrefixes) {
	if i.cfg.Role == dmsc.RoleObserver {
		i.alarm(AlarmBadEvent, "an observer announces no prefixes")
		return
	}
	prefixes := slices.SortedFunc(slices.Values(ev.Prefixes), func(a, b Prefix) int { return a.Prefix.Compare(b.Prefix) })
	for n, p := range prefixes {
		if p.Prefix.IsZero() || n > 0 && p.Prefix == prefixes[n-1].Prefix {
			i.alarm(AlarmBadEvent, "the prefix %q is announced twice or is empty: the announcements stay as they were", p.Prefix)
			return
		}
	}
	for n := range prefixes {
		p := &prefixes[n]
		p.Attributes, p.Authorization = slices.Clone(p.Attributes), slices.Clone(p.Authorization)
	}
	i.prefixes = prefixes
	i.wantPrefixes()
}

// wantPrefixes rebuilds the PrefixLSAs.
func (i *Instance) wantPrefixes() {
	buckets := make(map[Key]*PrefixLSA)
	for _, p := range i.prefixes {
		k := Key{Origin: i.cfg.Node, Type: TypePrefix, Fragment: Bucket(p.Prefix)}
		if buckets[k] == nil {
			buckets[k] = new(PrefixLSA)
		}
		if i.drain != DrainNone {
			p = drained(p)
		}
		buckets[k].Prefixes = append(buckets[k].Prefixes, p)
	}
	for f := range uint32(Buckets) {
		k := Key{Origin: i.cfg.Node, Type: TypePrefix, Fragment: f}
		_, had := i.wants[k]
		if b := buckets[k]; b != nil {
			i.want(k, b)
		} else if had {
			i.want(k, nil)
		}
	}
}

func (i *Instance) onSetAuthorizations(ev SetAuthorizations) {
	for serial, a := range ev.Authorizations {
		if a == nil || len(a.POA) == 0 || i.cfg.Role == dmsc.RoleObserver {
			i.alarm(AlarmBadEvent, "authorization %d is empty, or this is an observer: the authorizations stay as they were", serial)
			return
		}
	}
	for k := range i.wants {
		if k.Type == TypeAuth && ev.Authorizations[k.Fragment] == nil {
			i.want(k, nil)
		}
	}
	for serial, a := range ev.Authorizations {
		i.want(Key{Origin: i.cfg.Node, Type: TypeAuth, Fragment: serial}, &AuthLSA{POA: slices.Clone(a.POA)})
	}
}

func (i *Instance) onSetQuality(ev SetQuality) {
	a := i.links[ev.Link]
	if a == nil || a.observer || math.IsNaN(ev.Loss) || ev.Loss < 0 || ev.Loss > 1 || ev.Delay < 0 || ev.Jitter < 0 {
		i.alarm(AlarmBadEvent, "quality of %s: no such link, or values out of range", ev.Link)
		return
	}
	a.quality = ev
	i.nodeDirty = i.nodeDirty || a.state >= StateFull
}

// publish brings the database in line with what is wanted. What finds its
// bucket empty stays dirty and is tried again when there is a token.
func (i *Instance) publish() {
	i.wantNode()
	i.retryAt = time.Time{}
	keys := make([]Key, 0, len(i.dirty))
	for k := range i.dirty {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, Key.Compare)
	for _, k := range keys {
		w, ok := i.wants[k]
		cur := i.db.records[k]
		switch {
		case ok:
			delete(i.adopted, k)
			if cur != nil && cur.mine && cur.Incarnation == i.incarnation && !cur.Tombstone && bytes.Equal(cur.Body, w.body) {
				delete(i.dirty, k)
				continue
			}
			i.originate(k, w)
		default:
			if _, leased := i.adopted[k]; leased || cur == nil || cur.Tombstone {
				delete(i.dirty, k)
				continue
			}
			i.originate(k, wanted{})
		}
	}
}

// originate issues the next version of an own record, a tombstone for the zero
// wanted, unless its bucket is empty and the news can wait.
func (i *Instance) originate(k Key, w wanted) {
	l := &LSA{Key: k, Order: Order{i.incarnation, i.seq + 1}, Body: w.body, Content: w.content}
	lifetime := i.cfg.Lifetime
	if l.Tombstone = w.content == nil; l.Tombstone {
		lifetime = MaxLifetime
	}
	// Whole seconds survive every encoding, so that no two copies differ in it.
	l.NotAfter = i.now.Add(lifetime).Truncate(time.Second)
	r := newRecord(i.cfg.Domain, l)
	r.mine = true
	b := i.buckets[k]
	if b == nil {
		b = &bucket{tokens: originateBurst, at: i.now}
		i.buckets[k] = b
	}
	b.fill(i.now)
	if _, urgent := difference(i.db.records[k], r); b.tokens < 1 && urgent > urgentWithdrawal {
		at := i.now.Add(time.Duration((1 - b.tokens) / originateRate * float64(time.Second))).Add(time.Millisecond)
		if i.retryAt.IsZero() || at.Before(i.retryAt) {
			i.retryAt = at
		}
		return
	}
	b.tokens = max(0, b.tokens-1)
	i.seq++
	delete(i.dirty, k)
	i.install(r, nil)
	if !l.Tombstone {
		half := float64(i.cfg.Lifetime / 2)
		i.db.schedule(i.now.Add(time.Duration(half*(0.75+i.rand.Float64()/2))), timerRefresh, r)
	}
}

// age handles the records whose time has come.
func (i *Instance) age() {
	for r, kind := i.db.due(i.now); r != nil; r, kind = i.db.due(i.now) {
		switch kind {
		case timerExpire:
			i.drop(r)
			if _, ok := i.wants[r.Key]; ok {
				i.dirty[r.Key] = struct{}{}
			}
		case timerRefresh:
			if w, ok := i.wants[r.Key]; ok {
				i.originate(r.Key, w)
			}
		case timerLease:
			delete(i.adopted, r.Key)
			i.dirty[r.Key] = struct{}{}
		}
	}
}

// drop removes a record for good.
func (i *Instance) drop(r *record) {
	changed, _ := difference(r, nil)
	i.db.remove(r)
	delete(i.adopted, r.Key)
	delete(i.buckets, r.Key) // it is full again
	i.noteChange(r.Key, changed)
	i.moveTopology(r.Key, r, nil)
	for _, a := range i.order {
		if _, ok := a.out.pending[r.Key]; ok {
			delete(a.out.pending, r.Key)
			i.touch(a)
		}
	}
}

// receiveOwn meets a record of our own that a neighbour holds. If we still
// announce it, ours must be the newest; otherwise it comes from an earlier life
// and is adopted for the lease, in which its pod may announce it again.
func (i *Instance) receiveOwn(a *adjacency, r *record) {
	if i.cfg.Role == dmsc.RoleObserver {
		i.alarm(AlarmDuplicateNode, "%s holds %s: another node has the name of this observer", a, r.Key)
		return
	}
	if n, ok := r.Content.(*NodeLSA); ok && i.starting {
		i.resumeDelays(n)
	}
	cur := i.db.records[r.Key]
	newer := 1
	if cur != nil {
		newer = r.compare(cur)
	}
	if newer == 0 {
		a.out.settled(r)
		return
	}
	if cur != nil && cur.conflicts(r) && !i.starting {
		i.alarm(AlarmConflict, "%s %s exists with the bodies %x and %x: this node may be running twice", r.Key, r.Order, cur.hash()[:4], r.hash()[:4])
		newer = 1
	}
	// An order of this incarnation that we have not given out, or any above it.
	if r.Incarnation > i.incarnation || r.Incarnation == i.incarnation && (newer > 0 || i.starting) {
		if !i.starting {
			i.alarm(AlarmOwnRecordNewer, "%s holds %s %s, newer than any this node sent: a second node may have this name", a, r.Key, r.Order)
		}
		i.raise(r.Incarnation)
	}
	_, announced := i.wants[r.Key]
	switch {
	case cur != nil && r.compare(cur) < 0:
		i.enqueue(a, cur, urgentAddition)
	case announced:
		i.dirty[r.Key] = struct{}{}
	default:
		i.install(r, a)
		a.out.settled(r)
		delete(i.adopted, r.Key)
		if !r.Tombstone {
			i.adopted[r.Key] = struct{}{}
			i.db.schedule(i.now.Add(i.cfg.Lease), timerLease, r)
		}
	}
}

// Raising the incarnation. Two nodes of one name outdo each other for as long
// as both run: every time in a row waits longer.
const (
	firstRaise   = time.Second
	longestRaise = time.Minute
	// startsLeft above the highest incarnation that is outdone: what a liar
	// makes up must not keep us from starting again.
	startsLeft = 1 << 32
)

// raise lifts the incarnation above what a neighbour holds, and everything we
// announce with it.
func (i *Instance) raise(above uint64) {
	switch {
	case above >= MaxIncarnation-startsLeft:
		i.alarmOnce("", AlarmIncarnationExhausted, "a neighbour holds incarnation %d of this node, too close to the last one: it counts until its records end, within %s; find out who has sent it", above, MaxLifetime+MaxSkew)
		return
	case !i.starting && i.now.Before(i.raiseAt):
		i.raiseTo = max(i.raiseTo, above)
		return
	case i.now.Sub(i.raiseAt) > 2*longestRaise:
		i.raiseGap = 0
	}
	if i.raiseGap = min(max(2*i.raiseGap, firstRaise), longestRaise); i.raiseGap > 2*firstRaise && !i.starting {
		i.alarm(AlarmDuplicateNode, "the records of this node are outdone again and again: another node calls itself %s; give one of them another name", i.cfg.Node)
	}
	i.raiseAt, i.raiseTo = i.now.Add(i.raiseGap), 0
	i.incarnation = above + 1
	i.ready.Incarnation = i.incarnation
	for k := range i.wants {
		i.dirty[k] = struct{}{}
	}
	i.stale = true
}

// raiseLate does what raise has put off.
func (i *Instance) raiseLate() {
	if i.raiseTo > 0 && !i.now.Before(i.raiseAt) {
		i.raise(max(i.raiseTo, i.incarnation))
	}
}
