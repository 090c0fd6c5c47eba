package linkstate

import (
	"cmp"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// goodNewsDelay is how much later than the ends of a link other nodes compute
// that it has come up or got better (RFC 8333's delay, for the side on which
// waiting costs nothing: the old way still works). By then the ends forward
// over it, so that nobody sends them what they would send back. Everything else
// is computed at once, and what waits with it.
const goodNewsDelay = 20 * time.Millisecond

// goodNews are records whose computation waits. They are flooded without delay.
type goodNews struct {
	due  time.Time // zero = none
	keys map[Key]struct{}
}

// late reports whether the computation of a change may wait: a far node gained,
// and not a link to us.
func (i *Instance) late(old, new *record, changed Change, urgent urgency) bool {
	return changed&ChangedTopology != 0 && urgent == urgentAddition && !i.starting && new.Origin != i.cfg.Node &&
		slices.EqualFunc(i.toUs(old), i.toUs(new), sameCost)
}

// toUs returns the links of a node that lead here.
func (i *Instance) toUs(r *record) []Link {
	links := r.nodeLinks()
	first, _ := slices.BinarySearchFunc(links, i.cfg.Node, func(l Link, id dmsc.NodeID) int { return cmp.Compare(l.Remote, id) })
	end := first
	for end < len(links) && links[end].Remote == i.cfg.Node {
		end++
	}
	return links[first:end]
}

// wait puts off the computation of a record, and Ready does not name the record
// before: a computation for another reason would not know that it is to wait.
func (i *Instance) wait(k Key) {
	if i.good.due.IsZero() {
		i.good.due = i.now.Add(goodNewsDelay)
	}
	i.good.keys[k] = struct{}{}
	i.moved = true
}

// tellGoodNews asks for the computation that has waited, once it is time or
// there is one of the topology to do anyway.
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
