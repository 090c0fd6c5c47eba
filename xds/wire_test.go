package xds_test

import (
	"fmt"
	"maps"
	"slices"
	"testing/synctest"
	"time"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// wire is one stream together with all that the protocol says about it: what
// the client has asked for, what it was told, what it took. Every message is
// judged when it arrives (judge_test.go), at which moment the server knows
// exactly what the client has said.
type wire struct {
	*xdstest.Stream
	w     *world
	stats map[string]int
	log   func(format string, args ...any)
	fault string // of the server; the first counts

	published bool
	late      bool // the clock has ended a wait: nothing is said of order
	subs      [types]subscription
	entries   map[name]*entry
	inbox     []*message // arrived and not yet answered, oldest first
	nonces    map[string]bool
	refusing  bool               // a NACK was the last that was said
	since     [types]int         // responses since then
	usable    func(name) bool    // a cluster that routes may point to
	versions  map[content]string // what the server calls it
	// warm are endpoints whose cluster was sent since they were; true if that
	// was news to the client, who then needs them.
	warm map[name]bool
}

// subscription is what the client has said of one type.
type subscription struct {
	asked, named, all bool
	names             map[string]bool // as the server knows them
	wish              []string        // state of the world: as the client wants them, sorted
	nonce             string          // newest that arrived
	answered          string          // newest that was answered
	stirred           bool            // something was asked or published since the last response
	version           string          // state of the world: newest that was accepted
}

// entry is what was said about one name that is subscribed.
type entry struct {
	told    content // last
	silent  bool    // told says nothing: the server has not spoken of it yet
	nonce   string  // of the response that told
	held    content // what the client runs
	licence bool    // it may be told again
	owed    string  // an answer is due, and why
	brought bool    // held is of an earlier stream, on which the server may not have been
	refused content // as it was refused; only if parked
	parked  bool
	waited  bool // the clock has passed since it was told
	moved   bool // the world has wanted something else since
}

// message is one response, as its client has to take it.
type message struct {
	typ     xds.Type
	nonce   string
	version string
	items   map[string]content // news: with removals, without what was repeated
	all     map[string]content // everything, if the response is a whole one
}

func newWire(stream *xdstest.Stream, w *world, stats map[string]int, log func(string, ...any)) *wire {
	c := &wire{
		Stream: stream, w: w, stats: stats, log: log, entries: map[name]*entry{}, nonces: map[string]bool{},
		versions: map[content]string{}, warm: map[name]bool{},
	}
	c.usable = func(n name) bool { e := c.entries[n]; return e != nil && e.held != gone }
	for t := range types {
		c.subs[t].names = map[string]bool{}
	}
	return c
}

func (c *wire) wrong(format string, args ...any) {
	if c.fault == "" {
		c.fault = fmt.Sprintf(format, args...)
	}
}

func (c *wire) has(n name) bool { return c.subs[n.typ].all || c.subs[n.typ].names[n.name] }

func (c *wire) entry(n name) *entry {
	e := c.entries[n]
	if e == nil {
		e = &entry{silent: true}
		c.entries[n] = e
	}
	return e
}

// wants notes that the world has changed.
func (c *wire) wants(before map[name]content) {
	for n, e := range c.entries {
		if before[n] != c.w.want[n] {
			e.moved = true
		}
	}
	for t := range types {
		c.subs[t].stirred = true
	}
	c.refusing = false
}

// whole: the dialect sends all of the type, and absence removes.
func (c *wire) whole(t xds.Type) bool {
	return c.Dialect == xdstest.SotW && (t == xds.Clusters || t == xds.Listeners)
}

// listen takes in what has arrived, which is everything the server has to say.
func (c *wire) listen() {
	synctest.Wait()
	for {
		r, err := c.Next()
		if err != nil {
			c.wrong("the stream ended: %v", err)
			return
		}
		if r == nil {
			return
		}
		c.arrive(r)
	}
}

func (c *wire) arrive(r *xdstest.Response) {
	c.stats["responses"]++
	c.log("    %s", r)
	if r.Type >= types || !c.subs[r.Type].asked {
		c.wrong("%s: nobody has asked for this type", r)
		return
	}
	sub := &c.subs[r.Type]
	switch {
	case !c.published:
		c.wrong("%s: before anything was published", r)
	case r.GetNonce() == "" || c.nonces[r.GetNonce()]:
		c.wrong("%s: has the nonce %q, which is none or not new", r, r.GetNonce())
	}
	c.nonces[r.GetNonce()] = true
	if c.since[r.Type]++; c.refusing && c.since[r.Type] > 1 {
		c.wrong("%s: is the second answer to one refusal", r)
	}
	all := map[string]content{}
	for _, res := range r.GetResources() {
		if _, twice := all[res.GetName()]; twice {
			c.wrong("%s: names %s twice", r, res.GetName())
		}
		x := content(res.GetResource().GetValue())
		if _, known := c.w.uses[x]; !known { // perhaps marshalled in another way
			m, err := res.GetResource().UnmarshalNew()
			if err != nil {
				c.wrong("%s: %s: %v", r, res.GetName(), err)
				return
			}
			x = contentOf(m)
		}
		if _, known := c.w.uses[x]; !known {
			c.wrong("%s: %s was never published", r, name{r.Type, res.GetName()})
		}
		all[res.GetName()] = x
		c.versions[x] = res.GetVersion()
	}
	for _, n := range r.GetRemovedResources() {
		if _, twice := all[n]; twice {
			c.wrong("%s: names %s twice", r, n)
		}
		all[n] = gone
	}
	items := all
	if c.whole(r.Type) {
		items = c.news(r.Type, all)
		if len(items) == 0 && !sub.stirred {
			c.wrong("%s: tells what was told", r)
		}
		sub.stirred = false
	}
	for _, n := range slices.Sorted(maps.Keys(items)) {
		c.judge(r, name{r.Type, n}, items[n])
	}
	for n, x := range items {
		e := c.entry(name{r.Type, n})
		fresh := e.silent || e.told != x
		delete(c.warm, name{r.Type, n})
		*e = entry{told: x, nonce: r.GetNonce(), held: e.held, brought: e.brought}
		if r.Type == xds.Clusters && x != gone {
			c.warms(x, fresh && x != e.held)
		}
	}
	sub.nonce = r.GetNonce()
	c.inbox = append(c.inbox, &message{r.Type, r.GetNonce(), r.GetSystemVersionInfo(), items, all})
}

// news is what a whole response says that the one before did not.
func (c *wire) news(t xds.Type, all map[string]content) map[string]content {
	items := map[string]content{}
	for n, x := range all {
		e := c.entry(name{t, n})
		if e.parked && x == e.held && !e.brought {
			continue // the last good one stays
		}
		if e.silent || e.licence || e.told != x {
			items[n] = x
		}
	}
	for n, e := range c.entries {
		_, there := all[n.name]
		if !there && n.typ == t && e.parked && (e.held == gone || e.brought) && c.w.want[n] != gone {
			e.held = gone // it was never there, as far as the server can know
			continue
		}
		if !there && n.typ == t && (e.licence || !e.silent && e.told != gone || e.silent && e.held != gone) {
			items[n.name] = gone
		}
	}
	return items
}

// warms: an Envoy that takes a new cluster needs its endpoints once more.
func (c *wire) warms(cluster content, owed bool) {
	for _, n := range c.w.uses[cluster] {
		c.warm[n] = c.warm[n] || owed
		c.rewarm(n)
	}
}

func (c *wire) rewarm(n name) {
	owed, warm := c.warm[n]
	if !warm || !c.has(n) {
		return
	}
	e := c.entry(n)
	e.licence = true
	if owed && c.w.want[n] != gone {
		e.owed = "its cluster was sent"
	}
}

// asks: the client wants it, whether or not the server has heard of it.
func (c *wire) asks(n name) bool {
	if c.Dialect == xdstest.SotW {
		return slices.Contains(c.subs[n.typ].wish, n.name)
	}
	return c.subs[n.typ].names[n.name]
}

// say sends a request and takes in everything it leads to.
func (c *wire) say(r xdstest.Request) {
	c.refusing = r.Refused
	c.since = [types]int{}
	if c.Dialect == xdstest.SotW {
		r.Version = c.subs[r.Type].version
	}
	if err := c.Send(r); err != nil {
		c.wrong("send: %v", err)
		return
	}
	c.listen()
}

// ask changes a subscription. The model follows at once; in the
// state-of-the-world dialect only if the server will listen.
func (c *wire) ask(t xds.Type, subscribe, unsubscribe []string, initial map[string]string, nonce string) {
	sub := &c.subs[t]
	if c.Dialect == xdstest.SotW {
		wish := slices.DeleteFunc(slices.Concat(sub.wish, subscribe), func(n string) bool { return slices.Contains(unsubscribe, n) })
		slices.Sort(wish)
		sub.wish = slices.Compact(wish)
		c.list(t, sub.wish, nonce)
		c.say(xdstest.Request{Type: t, Names: sub.wish, Nonce: nonce})
		return
	}
	c.heard(t, subscribe, unsubscribe, initial)
	c.say(xdstest.Request{Type: t, Subscribe: subscribe, Unsubscribe: unsubscribe, Initial: initial, Nonce: nonce})
}

// list is heard for the whole list of a state-of-the-world request, unless
// that is stale.
func (c *wire) list(t xds.Type, names []string, nonce string) {
	sub := &c.subs[t]
	if sub.nonce != "" && nonce != sub.nonce {
		c.stats["stale requests"]++
		return
	}
	var subscribe, unsubscribe []string
	if len(names) > 0 || sub.named {
		for _, n := range names {
			if n == "*" && !(sub.all && sub.named) || n != "*" && !sub.names[n] {
				subscribe = append(subscribe, n)
			}
		}
		for n := range sub.names {
			if !slices.Contains(names, n) {
				unsubscribe = append(unsubscribe, n)
			}
		}
		if sub.all && !slices.Contains(names, "*") {
			unsubscribe = append(unsubscribe, "*")
		}
		sub.named = true
	}
	c.heard(t, subscribe, unsubscribe, nil)
}

// heard is what a subscription means by the protocol document.
func (c *wire) heard(t xds.Type, subscribe, unsubscribe []string, initial map[string]string) {
	sub := &c.subs[t]
	first := !sub.asked
	sub.asked = true
	sub.stirred = sub.stirred || len(subscribe)+len(unsubscribe) > 0
	if len(subscribe) > 0 {
		sub.named = true
	} else if first && !sub.named && (t == xds.Clusters || t == xds.Listeners) {
		sub.all = true
	}
	for _, n := range subscribe {
		switch {
		case n == "*" && !sub.all:
			sub.all = true
			for known := range c.w.want {
				if known.typ == t && !sub.names[known.name] {
					c.entry(known).licence = true
				}
			}
		case n == "*":
		default:
			sub.names[n] = true
			e := c.entry(name{t, n})
			if _, brought := initial[n]; brought && first {
				c.rewarm(name{t, n})
				continue
			}
			e.licence = true
			e.owed = "it was asked for"
		}
	}
	// "*" last: what leaves with it need not be explained. With a wildcard that
	// stays, a name that leaves is answered.
	leaves := slices.Contains(unsubscribe, "*")
	for _, n := range unsubscribe {
		if n == "*" || !sub.names[n] {
			continue
		}
		delete(sub.names, n)
		if sub.all && !leaves {
			e := c.entry(name{t, n})
			e.licence = true
			e.owed = "the wildcard may have it"
		}
	}
	if leaves {
		sub.all = false
	}
	maps.DeleteFunc(c.entries, func(n name, _ *entry) bool { return n.typ == t && !c.has(n) })
}

// elapse lets time pass: waits end, and a refused listener is tried again.
func (c *wire) elapse(d time.Duration) {
	c.late, c.refusing = true, false
	c.subs[xds.Listeners].stirred = true
	for n, e := range c.entries {
		e.licence = e.licence || n.typ == xds.Listeners && e.parked
		e.waited = true
	}
	time.Sleep(d)
	c.listen()
}

// ack takes m and says so.
func (c *wire) ack(m *message) {
	for n, x := range m.items {
		c.take(name{m.typ, n}, x)
	}
	if c.whole(m.typ) {
		for n := range c.entries {
			if n.typ == m.typ {
				c.take(n, m.all[n.name])
			}
		}
	}
	c.subs[m.typ].version = m.version
	c.answer(m, xdstest.Request{Type: m.typ, Nonce: m.nonce})
}

func (c *wire) take(n name, x content) {
	if e := c.entries[n]; e != nil && c.has(n) {
		e.held, e.brought = x, false
	}
}

// nack refuses the blamed items of m, in words that name them or not, which
// parks them. The rest may be told once more.
func (c *wire) nack(m *message, blamed []string, words string) {
	c.stats["refusals"]++
	c.subs[m.typ].stirred = true
	for n, x := range m.items {
		e := c.entries[name{m.typ, n}]
		switch {
		case e == nil || e.nonce != m.nonce:
		case slices.Contains(blamed, n):
			e.parked, e.refused, e.moved = true, x, c.w.want[name{m.typ, n}] != x
		default:
			e.licence = true
		}
	}
	for n := range m.all {
		if e := c.entries[name{m.typ, n}]; e != nil && !slices.Contains(blamed, n) {
			e.licence = true
		}
	}
	c.answer(m, xdstest.Request{Type: m.typ, Nonce: m.nonce, Refused: true, Words: words})
}

func (c *wire) answer(m *message, r xdstest.Request) {
	c.inbox = slices.DeleteFunc(c.inbox, func(other *message) bool { return other == m })
	sub := &c.subs[m.typ]
	sub.answered = m.nonce
	if c.Dialect == xdstest.SotW {
		r.Names = sub.wish
		c.list(m.typ, r.Names, m.nonce)
	}
	c.say(r)
}
