package xds_test

import (
	"fmt"
	"maps"
	"slices"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// judge holds one item against the rules.
func (c *wire) judge(r *xdstest.Response, n name, x content) {
	e := c.entry(n)
	wanted := c.w.want[n]
	switch {
	case !c.has(n):
		c.wrong("%s: %s is not subscribed", r, n)
	case x == gone && wanted != gone && !c.whole(n.typ):
		c.wrong("%s: %s is wanted, and was told to be gone", r, n)
	case x != gone && x != wanted && n.typ != xds.Endpoints && !(c.whole(n.typ) && (x == e.held || x == e.told)):
		c.wrong("%s: %s is not wanted like this any more", r, n)
	case e.parked && x == e.refused && !e.moved && !e.licence:
		c.wrong("%s: %s is told again as it was refused", r, n)
	case !e.silent && x == e.told && !e.licence && !e.moved:
		c.wrong("%s: %s is told again, unasked", r, n)
	}
	if e.silent && e.told == x && e.held == x && x != gone && !e.licence {
		c.wrong("%s: %s is what the client came with", r, n)
	}
	if c.late {
		return
	}
	if x == gone {
		c.judgeRemoval(r, n, e)
		return
	}
	if x == e.held {
		return
	}
	for _, used := range c.w.uses[x] {
		if used.typ != xds.Clusters || !c.has(used) {
			continue
		}
		c.stats["routes that need a cluster"]++
		if !c.usable(used) {
			c.wrong("%s: %s needs %s, which the client does not have yet", r, n, used)
		}
		for _, service := range c.w.uses[c.w.want[used]] {
			if used := c.entries[used]; used.nonce == "" || used.waited {
				continue // brought along with who knows what, or waited for long enough
			}
			if e := c.entries[service]; c.has(service) && !e.parked && e.held == gone {
				c.wrong("%s: %s needs %s, whose endpoints the client does not have yet", r, n, used)
			}
		}
	}
}

// judgeRemoval: nothing that the client has or is about to have may use it.
func (c *wire) judgeRemoval(r *xdstest.Response, n name, e *entry) {
	if e.held == gone {
		return // the answer to a question
	}
	c.stats["removals"]++
	for by, x := range c.may {
		if slices.Contains(c.w.uses[x], n) {
			c.wrong("%s: %s is still used by %s", r, n, by)
		}
	}
}

// may yields what the client may have: what it runs, and what is on its way.
func (c *wire) may(yield func(name, content) bool) {
	for n, e := range c.entries {
		if e.held != gone && !yield(n, e.held) {
			return
		}
	}
	for _, m := range c.inbox {
		for n, x := range m.items {
			if x != gone && c.entries[name{m.typ, n}] != nil && !yield(name{m.typ, n}, x) {
				return
			}
		}
	}
}

// agrees is what must be so when nothing is on its way any more.
func (c *wire) agrees() string {
	refused := map[name]bool{}
	for n, e := range c.entries {
		if c.has(n) && e.parked && e.refused == c.w.want[n] && !c.settled(n, e) {
			refused[n] = true
		}
	}
	for n := range c.w.want {
		if c.has(n) && c.subs[n.typ].asked {
			c.entry(n)
		}
	}
	for _, n := range slices.SortedFunc(maps.Keys(c.entries), byName) {
		e, x := c.entries[n], c.w.want[n]
		switch {
		case !c.has(n) || refused[n] || c.needs(x, refused):
		case x == gone && (len(refused) > 0 || c.settled(n, e)):
		case e.held != x:
			return fmt.Sprintf("%s: the client holds %s, and %s is wanted", n, about(e.held), about(x))
		case e.owed != "":
			return fmt.Sprintf("%s: an answer is due, for %s", n, e.owed)
		}
	}
	return ""
}

// settled: nothing is wanted under n, and nothing can be done about it.
func (c *wire) settled(n name, e *entry) bool {
	return c.w.want[n] == gone && (e.held == gone || c.Dialect == xdstest.SotW && !c.whole(n.typ))
}

// refused lists what is parked.
func (c *wire) refused() (out []name) {
	for n, e := range c.entries {
		if c.has(n) && e.parked && !c.settled(n, e) {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, byName)
	return out
}

// needs: x cannot be there because of what was refused.
func (c *wire) needs(x content, refused map[name]bool) bool {
	for _, used := range c.w.uses[x] {
		if used.typ != xds.Endpoints && (refused[used] || c.needs(c.w.want[used], refused)) {
			return true
		}
	}
	return false
}

// about is a content in a few characters.
func about(x content) string {
	if x == gone {
		return "nothing"
	}
	sum := 0
	for _, b := range []byte(x) {
		sum = (sum*31 + int(b)) & 0xffff
	}
	return fmt.Sprintf("content %04x", sum)
}
