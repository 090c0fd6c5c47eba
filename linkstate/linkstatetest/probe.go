package linkstatetest

import (
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Probes every 50 to 500 ms in both directions of every link would be most of
// what a quiet network does. A result that is the same as the last few tells an
// Instance nothing, so the regular probes of a direction rest after some equal
// ones and go on, at the moments they would have had anyway, as soon as
// something could make the next one different: the link, either Envoy, the
// agent, or a probe it asked for. ProbeAlways sends them all, and a test shows
// that it makes no difference. A node that measures delays needs every sample.

// restAfter is how many equal results in a row are enough: more than the misses
// that declare a data path dead.
const restAfter = 5

// prober is the regular probing of one direction of a link.
type prober struct {
	last  result
	takes time.Duration // until it was there
	equal int           // results like it in a row
	rests bool
	next  time.Time // the probe that would be due
	life  int       // of the agent it belongs to
}

// result of a probe.
type result uint8

const (
	missed result = iota
	refused
	answered
)

func (lk *link) prober(nd *node) *prober {
	if nd.id == lk.a {
		return &lk.probes[0]
	}
	return &lk.probes[1]
}

// probe asks the far Envoy through our own and reports the answer.
func (n *Network) probe(nd *node, lk *link) {
	if !nd.fib {
		n.report(nd, lk, 0, 0, missed)
		return
	}
	life := nd.life
	n.after(lk.Delay, func() { n.probeArrives(nd, lk, life) })
}

// probeArrives is what a probe meets at the far end.
func (n *Network) probeArrives(nd *node, lk *link, life int) {
	switch {
	case nd.life != life:
	case !lk.data:
		n.report(nd, lk, lk.Delay, lk.Class.ProbeTimeout(), missed)
	case !n.node(lk.key(nd.id).Remote).fib:
		n.report(nd, lk, lk.Delay, 2*lk.Delay, refused)
	default:
		n.after(lk.Delay, func() { n.probeReturns(nd, lk, life) })
	}
}

// probeReturns is what an answer meets on its way back.
func (n *Network) probeReturns(nd *node, lk *link, life int) {
	switch {
	case nd.life != life:
	case lk.data && nd.fib:
		n.report(nd, lk, 2*lk.Delay, 2*lk.Delay, answered)
	default:
		n.report(nd, lk, 2*lk.Delay, 2*lk.Delay+lk.Class.ProbeTimeout(), missed)
	}
}

// report tells a node the result of a probe that is some time under way, when
// it has taken as long as it takes.
func (n *Network) report(nd *node, lk *link, under, takes time.Duration, r result) {
	life := nd.life
	n.after(takes-under, func() {
		if nd.life != life {
			return
		}
		if p := lk.prober(nd); p.equal > 0 && p.last == r {
			p.equal++
		} else {
			p.last, p.equal = r, 1
		}
		lk.prober(nd).takes = takes
		key := lk.key(nd.id)
		n.step(nd, linkstate.Probed{
			Link: key, OK: r == answered, Refused: r == refused, Peer: key.Remote, RTT: 2 * lk.Delay,
		})
	})
}

// probeRegularly starts the regular probes of an agent's life.
func (n *Network) probeRegularly(nd *node, lk *link) {
	if nd.config.Role == dmsc.RoleObserver || n.node(lk.key(nd.id).Remote).config.Role == dmsc.RoleObserver {
		return
	}
	first := time.Duration(n.rand.Int64N(int64(lk.Class.ProbeInterval())))
	*lk.prober(nd) = prober{next: n.now.Add(first), life: nd.life}
	n.after(first, func() { n.probeNext(nd, lk, nd.life) })
}

// probeNext sends a regular probe and sees to the next one.
func (n *Network) probeNext(nd *node, lk *link, life int) {
	p := lk.prober(nd)
	if nd.life != life || nd.inst == nil || p.life != life {
		return
	}
	n.probe(nd, lk)
	p.next = n.now.Add(lk.Class.ProbeInterval())
	if p.equal >= restAfter && !n.ProbeAlways && nd.config.Algorithm != linkstate.AlgorithmDelay {
		p.rests = true
		return
	}
	n.after(lk.Class.ProbeInterval(), func() { n.probeNext(nd, lk, life) })
}

// wake lets the regular probes of a direction go on, first of all those that
// would be on their way now.
func (n *Network) wake(nd *node, lk *link) {
	p := lk.prober(nd)
	p.equal = 0
	if !p.rests {
		return
	}
	p.rests = false
	life, every := p.life, lk.Class.ProbeInterval()
	if skip := (n.now.Sub(p.next) - p.takes) / every; skip > 0 {
		p.next = p.next.Add(skip * every)
	}
	for ; p.next.Before(n.now); p.next = p.next.Add(every) {
		under := n.now.Sub(p.next)
		switch {
		case under >= p.takes:
		case under <= lk.Delay:
			n.after(lk.Delay-under, func() { n.probeArrives(nd, lk, life) })
		case p.last == answered:
			n.after(p.takes-under, func() { n.probeReturns(nd, lk, life) })
		default:
			n.report(nd, lk, under, p.takes, p.last)
		}
	}
	n.after(p.next.Sub(n.now), func() { n.probeNext(nd, lk, life) })
}

func (n *Network) wakeLink(lk *link) {
	n.wake(n.node(lk.a), lk)
	n.wake(n.node(lk.b), lk)
}

// wakeNode is for what changes at a node: all its links are probed anew, from
// both ends.
func (n *Network) wakeNode(nd *node) {
	for _, lk := range nd.links {
		n.wakeLink(lk)
	}
}
