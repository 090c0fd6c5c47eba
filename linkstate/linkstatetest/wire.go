package linkstatetest

import (
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
	lk := n.link(from.id, e.Link.Remote, e.Link.ID)
	to, stream := n.node(e.Link.Remote), lk.stream
	if stream == 0 {
		return
	}
	n.tally(e.Message)
	copies := 1
	if n.chance(lk.Loss) {
		copies = 0
		n.traffic.Lost++
	}
	if n.chance(lk.Duplicate) {
		copies++
		n.traffic.Duplicated++
	}
	way := 0
	if from.id == lk.b {
		way = 1
	}
	for range copies {
		at := n.now.Add(lk.Delay)
		if n.chance(lk.Reorder) {
			at = at.Add(time.Duration(n.rand.Int64N(int64(3 * lk.Delay))))
			n.traffic.Reordered++
		} else if at.Before(lk.arrival[way]) && lk.Reorder == 0 {
			at = lk.arrival[way]
		}
		lk.arrival[way] = at
		n.after(at.Sub(n.now), func() {
			if lk.stream == stream && lk.control {
				n.step(to, linkstate.Received{Link: lk.key(to.id), Message: e.Message})
			}
		})
	}
}

func (n *Network) tally(m linkstate.Message) {
	n.traffic.Messages++
	if u, ok := m.(*linkstate.LSUpdate); ok {
		n.traffic.Updates++
		n.traffic.Records += len(u.Records)
	}
}

func (n *Network) chance(p float64) bool { return p > 0 && n.rand.Float64() < p }

// Cut breaks a link: its stream is reset and nothing passes.
func (n *Network) Cut(a, b dmsc.NodeID, id dmsc.LinkID) {
	n.CutSilently(a, b, id)
	n.disconnect(n.link(a, b, id))
}

// CutSilently lets nothing pass and tells nobody: it takes long until the
// stream is found to be dead.
func (n *Network) CutSilently(a, b dmsc.NodeID, id dmsc.LinkID) {
	lk := n.link(a, b, id)
	lk.control, lk.data = false, false
	n.wakeLink(lk)
	stream := lk.stream
	n.after(halfOpen, func() {
		if lk.stream == stream && !lk.control {
			n.disconnect(lk)
		}
	})
}

// CutControl resets the stream and keeps it away; the data path stays.
func (n *Network) CutControl(a, b dmsc.NodeID, id dmsc.LinkID) {
	lk := n.link(a, b, id)
	lk.control = false
	n.disconnect(lk)
}

// CutData breaks the data path alone, silently.
func (n *Network) CutData(a, b dmsc.NodeID, id dmsc.LinkID) {
	lk := n.link(a, b, id)
	lk.data = false
	n.wakeLink(lk)
}

// Heal undoes every Cut of a link.
func (n *Network) Heal(a, b dmsc.NodeID, id dmsc.LinkID) {
	lk := n.link(a, b, id)
	lk.control, lk.data = true, true
	n.wakeLink(lk)
}
