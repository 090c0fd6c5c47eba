package linkstate

import (
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// keepalive is the time between two hellos on a stream.
const keepalive = time.Second

func (i *Instance) sendHello(a *adjacency) {
	i.send(a, &Hello{
		Domain: i.cfg.Domain, Node: i.cfg.Node, Role: i.cfg.Role, Link: a.ID, Algorithm: i.cfg.Algorithm,
		Session: a.session, Seen: a.peerSession,
		Incarnation: i.incarnation, Held: i.db.origins[a.Remote].incarnation,
		Fabric: a.Fabric, DataPlane: i.dataPlane, Class: a.Class,
	})
}

// onHello is the 3-way handshake and the keepalive: the stream is usable in
// both directions when the far end echoes our session number.
func (i *Instance) onHello(a *adjacency, h *Hello) {
	if !i.welcome(a, h) {
		i.reset(a)
		return
	}
	if h.Session == 0 || h.Incarnation >= MaxIncarnation || h.Held >= MaxIncarnation {
		i.alarm(AlarmMalformedMessage, "%s sends a hello with session %d, incarnation %d, held %d", a, h.Session, h.Incarnation, h.Held)
		return
	}
	if a.heard && h.Session != a.peerSession {
		// Its process is another one, behind the same stream: start over.
		i.reset(a)
		return
	}
	if h.Algorithm != i.cfg.Algorithm {
		i.alarmOtherAlgorithm(a.Remote, h.Algorithm.String(), i.cfg.Algorithm.String())
	}
	if a.data != h.Fabric || a.role != h.Role {
		a.data, a.role = h.Fabric, h.Role
		i.neighbourChanged()
	}
	if a.peerDataPlane != h.DataPlane {
		a.peerDataPlane = h.DataPlane
		a.died()
		if h.DataPlane {
			i.probe(a)
		}
	}
	i.learnHeld(h)

	first := !a.heard
	a.heard, a.peerSession = true, h.Session
	threeWay := !a.threeWay && h.Seen == a.session
	a.threeWay = a.threeWay || threeWay
	if first {
		i.sendHello(a) // tells it that we have heard
	}
	if threeWay {
		i.sendDigest(a)
	}
}

// welcome reports whether h comes from the node that the link leads to.
func (i *Instance) welcome(a *adjacency, h *Hello) bool {
	switch {
	case h.Domain != i.cfg.Domain:
		i.alarm(AlarmWrongDomain, "%s belongs to the domain %q, this node to %q: closed", a, h.Domain, i.cfg.Domain)
	case h.Node == i.cfg.Node:
		i.alarm(AlarmDuplicateNode, "the far end of %s calls itself %s, like this node: closed; give one of them another name", a, h.Node)
	case h.Node != a.Remote:
		i.alarm(AlarmUnexpectedNode, "the far end of %s is %q: closed", a, h.Node)
	case h.Link != a.ID:
		i.alarm(AlarmUnexpectedLink, "%s names the link %q, this node %q: closed; both ends must name it alike", a.Remote, h.Link, a.ID)
	case a.observer != (h.Role == dmsc.RoleObserver):
		i.alarm(AlarmUnexpectedNode, "%s has the role %s, which does not fit the link: closed", a, h.Role)
	default:
		return true
	}
	return false
}

// learnHeld outdoes what the far end holds of us from an earlier life, which a
// lost state file has made us forget. Before our first record has left, that
// includes our present incarnation.
func (i *Instance) learnHeld(h *Hello) {
	if i.cfg.Role == dmsc.RoleObserver {
		return
	}
	if h.Held > i.incarnation || h.Held == i.incarnation && i.starting {
		i.raise(h.Held)
	}
}
