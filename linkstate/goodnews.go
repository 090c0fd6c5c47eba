package linkstate

import (
	"slices"
	"time"
)

// goodNewsDelay is how much later than the ends of a link other nodes compute
// that it has come up or got better (RFC 8333's delay, for the side on which
// waiting costs nothing: the old way still works). By then the ends forward
// over it, so that nobody sends them what they would send back. Everything else
// is computed at once, and what waits with it.
const goodNewsDelay = 20 * time.Millisecond

// goodNews are records whose computation waits. They are flooded and published
// without delay.
type goodNews struct {
	due  time.Time // zero = none
	keys map[Key]struct{}
}

// late reports whether the computation of a change may wait: a node gained, and
// not a link to us.
func (i *Instance) late(old, new *record) bool {
	is, _ := new.Content.(*NodeLSA)
	if is == nil || i.starting || new.Origin == i.cfg.Node {
		return false
	}
	var was *NodeLSA
	if old != nil {
		was, _ = old.Content.(*NodeLSA)
	}
	if was == nil {
		was = &NodeLSA{Role: is.Role, Algorithm: is.Algorithm, Avoid: is.Avoid}
	}
	return better(was, is) && slices.EqualFunc(i.toUs(was), i.toUs(is), sameCost)
}

// toUs returns the links of a node that lead here.
func (i *Instance) toUs(n *NodeLSA) []Link {
	return slices.DeleteFunc(slices.Clone(n.Links), func(l Link) bool { return l.Remote != i.cfg.Node })
}

// wait puts off the computation of a record.
func (i *Instance) wait(k Key) {
	if i.good.due.IsZero() {
		i.good.due = i.now.Add(goodNewsDelay)
	}
	i.good.keys[k] = struct{}{}
	i.moved = true
}

// tellGoodNews asks for the computation that has waited, once it is time or
// there is one to do anyway. The records are named once more, so that they come
// with the change that they belong to.
func (i *Instance) tellGoodNews() {
	if i.good.due.IsZero() || i.now.Before(i.good.due) && i.ready.Changed&ChangedTopology == 0 {
		return
	}
	i.ready.Changed |= ChangedTopology
	for k := range i.good.keys {
		i.changed[k] = struct{}{}
	}
	i.good.due = time.Time{}
	clear(i.good.keys)
}

// better reports whether a node only gained: links came or got cheaper, or it
// carries transit again.
func better(was, is *NodeLSA) bool {
	if was.Role != is.Role || was.Transit && !is.Transit || was.Algorithm != is.Algorithm || !slices.Equal(was.Avoid, is.Avoid) {
		return false
	}
	now := make(map[LinkKey]Link, len(is.Links))
	for _, l := range is.Links {
		now[LinkKey{l.Remote, l.ID}] = l
	}
	return !slices.ContainsFunc(was.Links, func(l Link) bool {
		n, ok := now[LinkKey{l.Remote, l.ID}]
		return !ok || n.Metric > l.Metric || !slices.Equal(n.Tags, l.Tags)
	})
}
