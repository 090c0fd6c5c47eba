package linkstate

import (
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// A link that fails again and again costs every node of the domain a
// computation each time it fails and each time it returns. Its failures are
// never held back; its return is, from the third within a short time on, until
// the link has been good for a while: one second, and twice as long with each
// further failure, at the most a minute (route flap damping, RFC 2439, for
// links). One that then stays for a minute is a good link again.
// Adjacency.Flapping is true in between.
//
// The only way to a neighbour is never held back. Without it the domain would
// be in two parts, or a node cut off, and a link that works now and then is
// better than none.
const (
	promptReturns  = 2
	firstDamping   = time.Second
	longestDamping = time.Minute
	forgetFlaps    = time.Minute
)

// flaps is the recent past of a link.
type flaps struct {
	failures int       // since it was last good for long
	up       time.Time // when it was last advertised anew
	until    time.Time // it returns then; zero = it does not wait
}

// failed counts a failure of an advertised link.
func (i *Instance) failed(a *adjacency) {
	i.forgive(a)
	a.flaps.failures++
}

// forgive forgets the failures of a link that has been advertised for long.
func (i *Instance) forgive(a *adjacency) {
	if f := &a.flaps; f.failures > 0 && !i.now.Before(f.goodAt()) {
		i.stale = i.stale || f.flapping()
		f.failures = 0
	}
}

func (f *flaps) goodAt() time.Time { return f.up.Add(forgetFlaps) }
func (f *flaps) flapping() bool    { return f.failures > promptReturns }

// wait is how long the link has to be good before it returns.
func (f *flaps) wait() time.Duration {
	if !f.flapping() {
		return 0
	}
	return min(firstDamping<<min(f.failures-promptReturns-1, 10), longestDamping)
}

// damped reports whether a link that could be advertised has to wait. The wait
// begins anew whenever the link is not good.
func (i *Instance) damped(a *adjacency) bool {
	wait := a.flaps.wait()
	if wait == 0 {
		return false
	}
	if a.flaps.until.IsZero() {
		if len(i.unreached(a)) > 0 {
			return false
		}
		a.flaps.until = i.now.Add(wait)
		i.neighbourChanged()
	}
	return i.now.Before(a.flaps.until)
}

// undamp lets the links return at once that have become the only way to their
// far ends.
func (i *Instance) undamp() {
	if !i.moved {
		return
	}
	var waiting []*adjacency
	for _, a := range i.order {
		if !a.flaps.until.IsZero() {
			waiting = append(waiting, a)
		}
	}
	if len(waiting) == 0 {
		return
	}
	lost := i.unreached(waiting...)
	for _, a := range waiting {
		if lost[a.Remote] {
			i.setState(a, StateFull)
		}
	}
}

// unreached returns the far ends of some links to which there is no way over
// links that both ends advertise, our own as they are now.
func (i *Instance) unreached(links ...*adjacency) map[dmsc.NodeID]bool {
	lost := make(map[dmsc.NodeID]bool, len(links))
	for _, a := range links {
		lost[a.Remote] = true
	}
	var ends []dmsc.NodeID
	for _, a := range i.order {
		if a.state >= StateFull && i.advertisedBy(a) {
			ends = append(ends, a.Remote)
		}
	}
	for id := range i.db.walk(i.cfg.Node, ends) {
		if delete(lost, id); len(lost) == 0 { // it is seldom far
			break
		}
	}
	return lost
}
