package linkstatetest

import (
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// dial connects the control stream of a link as soon as both agents are there.
func (n *Network) dial(lk *link, wait time.Duration) {
	if lk.dialling {
		return
	}
	lk.dialling = true
	n.after(wait+lk.Delay, func() {
		lk.dialling = false
		a, b := n.node(lk.a), n.node(lk.b)
		if lk.stream != 0 {
			return
		}
		if !lk.control || a.inst == nil || b.inst == nil {
			n.dial(lk, dialEvery)
			return
		}
		lk.streams++
		lk.stream = lk.streams
		stream := lk.stream
		lk.arrival = [2]time.Time{}
		n.step(b, linkstate.StreamUp{Link: lk.key(b.id), Observer: a.config.Role == dmsc.RoleObserver})
		n.after(lk.Delay, func() {
			if lk.stream == stream {
				n.step(a, linkstate.StreamUp{Link: lk.key(a.id), Observer: b.config.Role == dmsc.RoleObserver})
			}
		})
	})
}

// disconnect ends the stream of a link; both ends hear of it a delay later.
func (n *Network) disconnect(lk *link) {
	if lk.stream == 0 {
		return
	}
	stream := lk.stream
	lk.stream = 0
	for _, nd := range []*node{n.node(lk.a), n.node(lk.b)} {
		life := nd.life
		n.after(lk.Delay, func() {
			// The next stream tells by itself that this one has ended.
			if nd.life == life && (lk.stream == 0 || lk.stream == stream) {
				n.step(nd, linkstate.StreamDown{Link: lk.key(nd.id)})
			}
		})
	}
	n.dial(lk, dialEvery)
}

// deliver carries a message to the far end of its link.
func (n *Network) deliver(from *node, e linkstate.Envelope) {
	if u, ok := e.Message.(*linkstate.LSUpdate); ok && from.mute {
		e.Message = &linkstate.LSUpdate{Seq: u.Seq, Records: slices.DeleteFunc(slices.Clone(u.Records), func(l *linkstate.LSA) bool {
			return l.Origin != from.id
		})}
	}
	lk := n.link(from.id, e.Link.Remote, e.Link.ID)
	to, stream := n.node(e.Link.Remote), lk.stream
	if stream == 0 {
		return
	}
	copies := 1
	if n.chance(lk.Loss) {
		copies = 0
	}
	if n.chance(lk.Duplicate) {
		copies++
	}
	way := 0
	if from.id == lk.b {
		way = 1
	}
	for range copies {
		at := n.now.Add(lk.Delay)
		if n.chance(lk.Reorder) {
			at = at.Add(time.Duration(n.rand.Int64N(int64(3 * lk.Delay))))
		} else if at.Before(lk.arrival[way]) && lk.Reorder == 0 {
			at = lk.arrival[way]
		}
		lk.arrival[way] = at
		m := carry(e.Message)
		n.after(at.Sub(n.now), func() {
			if lk.stream == stream && lk.control {
				n.step(to, linkstate.Received{Link: lk.key(to.id), Message: m})
			}
		})
	}
}

// Mute makes a node broken: it passes on no records of others any more, though
// it acts as if it did.
func (n *Network) Mute(id dmsc.NodeID) { n.node(id).mute = true }

func (n *Network) chance(p float64) bool { return p > 0 && n.rand.Float64() < p }

// probe asks the far Envoy through our own and reports the answer.
func (n *Network) probe(nd *node, lk *link) {
	key, life := lk.key(nd.id), nd.life
	far := n.node(key.Remote)
	report := func(wait time.Duration, ok bool) {
		n.after(wait, func() {
			if nd.life == life {
				n.step(nd, linkstate.Probed{Link: key, OK: ok, Peer: far.id, RTT: 2 * lk.Delay})
			}
		})
	}
	if !nd.fib {
		report(0, false)
		return
	}
	n.after(lk.Delay, func() {
		switch {
		case !lk.data:
			report(lk.Class.ProbeTimeout()-lk.Delay, false)
		case !far.fib:
			report(lk.Delay, false) // refused, or 404
		default:
			n.after(lk.Delay, func() {
				if lk.data && nd.fib {
					report(0, true)
				} else {
					report(lk.Class.ProbeTimeout(), false)
				}
			})
		}
	})
}

func (n *Network) probeRegularly(nd *node, lk *link) {
	if nd.config.Role == dmsc.RoleObserver || n.node(lk.key(nd.id).Remote).config.Role == dmsc.RoleObserver {
		return
	}
	life, every := nd.life, lk.Class.ProbeInterval()
	var next func()
	next = func() {
		if nd.life == life && nd.inst != nil {
			n.probe(nd, lk)
			n.after(every, next)
		}
	}
	n.after(time.Duration(n.rand.Int64N(int64(every))), next)
}

// Cut breaks a link: its stream is reset and nothing passes.
func (n *Network) Cut(a, b dmsc.NodeID, id dmsc.LinkID) {
	n.CutSilently(a, b, id)
	n.disconnect(n.link(a, b, id))
}

// CutSilently lets nothing pass and tells nobody.
func (n *Network) CutSilently(a, b dmsc.NodeID, id dmsc.LinkID) {
	lk := n.link(a, b, id)
	lk.control, lk.data = false, false
}

// CutControl resets the stream and keeps it away; the data path stays.
func (n *Network) CutControl(a, b dmsc.NodeID, id dmsc.LinkID) {
	lk := n.link(a, b, id)
	lk.control = false
	n.disconnect(lk)
}

// CutData breaks the data path alone, silently.
func (n *Network) CutData(a, b dmsc.NodeID, id dmsc.LinkID) { n.link(a, b, id).data = false }

// Heal undoes every Cut of a link.
func (n *Network) Heal(a, b dmsc.NodeID, id dmsc.LinkID) {
	lk := n.link(a, b, id)
	lk.control, lk.data = true, true
}

// start brings up what is dead of a node, agent and Envoy.
func (n *Network) start(nd *node) {
	n.startAgent(nd)
	n.StartEnvoy(nd.id)
}

func (n *Network) startAgent(nd *node) {
	if nd.inst != nil {
		return
	}
	nd.file++
	nd.life++
	nd.config.Incarnation = nd.file
	inst, err := linkstate.New(nd.config, n.now)
	if err != nil {
		panic(err)
	}
	nd.inst, nd.started, nd.tickAt = inst, n.now, time.Time{}
	n.step(nd, linkstate.SetLinks{Links: n.configured(nd)})
	if nd.config.Role != dmsc.RoleObserver {
		n.step(nd, linkstate.SetPrefixes{Prefixes: nd.prefixes})
	}
	for _, lk := range n.links {
		if lk.a == nd.id || lk.b == nd.id {
			n.probeRegularly(nd, lk)
		}
	}
	life := nd.life
	n.after(patience, func() {
		if nd.life == life {
			nd.fib = nd.envoy
		}
	})
}

// StartEnvoy starts the Envoy of a node; it has a FIB once the agent is synced,
// or some seconds after the agent's start.
func (n *Network) StartEnvoy(id dmsc.NodeID) {
	nd := n.node(id)
	if !nd.envoy {
		nd.envoy = true
		nd.fib = nd.inst != nil && n.now.Sub(nd.started) >= patience
		n.step(nd, linkstate.DataPlane{Up: true})
	}
}

// KillEnvoy ends the Envoy of a node; its agent, if alive, sees it at once.
func (n *Network) KillEnvoy(id dmsc.NodeID) {
	nd := n.node(id)
	nd.envoy, nd.fib = false, false
	n.step(nd, linkstate.DataPlane{Up: false})
}

// KillAgent ends the agent of a node; its Envoy forwards on.
func (n *Network) KillAgent(id dmsc.NodeID) {
	nd := n.node(id)
	nd.inst = nil
	nd.life++
	for _, lk := range n.links {
		if lk.a == nd.id || lk.b == nd.id {
			n.disconnect(lk)
		}
	}
}

// Kill ends agent and Envoy of a node in one moment.
func (n *Network) Kill(id dmsc.NodeID) {
	n.KillAgent(id)
	n.KillEnvoy(id)
}

// Restart starts what is dead of a node again, with what its state file holds:
// the incarnation and the announcements.
func (n *Network) Restart(id dmsc.NodeID) { n.start(n.node(id)) }

// RestartBlank is Restart with a lost state file: the incarnation begins at 1,
// as bad as a clock can make it, and nothing is announced.
func (n *Network) RestartBlank(id dmsc.NodeID) {
	nd := n.node(id)
	nd.file, nd.prefixes = 0, nil
	n.start(nd)
}
