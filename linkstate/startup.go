package linkstate

import (
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// While starting, our records are in our own database but leave to nobody
// (withheld), so that neighbours go on with those of our last life until we
// know which of its links are back.

// startUp ends the start-up phase once there is nothing left to wait for.
func (i *Instance) startUp() {
	if !i.withheld {
		return
	}
	deadline := i.startUpEnds()
	if i.now.Before(deadline) && !i.greetedAll() {
		return
	}
	if i.starting {
		i.starting, i.nodeDirty, i.stale = false, true, true
	}
	if i.firstStream.IsZero() && i.configured() {
		return // nobody has answered: serve the local pods, the phase proper comes
	}
	i.resumeHeld()
	i.withheld = false
	i.wantNode()
	i.publish()
	for _, l := range i.db.all() {
		if r := i.db.records[l.Key]; r.mine {
			for _, a := range i.order {
				i.enqueue(a, r, urgentAddition)
			}
		}
	}
}

// startUpEnds is the latest end of what startUp waits for.
func (i *Instance) startUpEnds() time.Time {
	if i.firstStream.IsZero() {
		return i.born.Add(i.cfg.StartUp)
	}
	return i.firstStream.Add(i.cfg.StartUp)
}

func (i *Instance) configured() bool {
	for _, a := range i.order {
		if !a.observer {
			return true
		}
	}
	return false
}

// greetedAll reports whether every neighbour that is there is synchronized and
// probed. A link whose stream is not back yet counts if the far end still
// advertises it, for then it will be resumed or not by its first probe.
func (i *Instance) greetedAll() bool {
	if i.firstStream.IsZero() {
		return !i.configured() && i.ticked
	}
	synced := false
	for _, a := range i.order {
		if a.observer {
			continue
		}
		synced = synced || a.phase() == StateSynced
		if a.stream && a.phase() < StateSynced {
			return false
		}
		if !a.probed && (a.stream || i.advertisedBy(a)) && i.cfg.Role != dmsc.RoleObserver {
			return false
		}
	}
	return synced
}

// advertisedBy reports whether the far end has the link in its NodeLSA.
func (i *Instance) advertisedBy(a *adjacency) bool {
	r := i.db.records[Key{Origin: a.Remote, Type: TypeNode}]
	if r == nil {
		return false
	}
	n, _ := r.Content.(*NodeLSA)
	if n == nil {
		return false
	}
	for _, l := range n.Links {
		if l.Remote == i.cfg.Node && l.ID == a.ID {
			return true
		}
	}
	return false
}

// resumeHeld is the restarting side of the graceful hold: a link that the far
// end has kept and whose data path is alive stays in our NodeLSA, though its
// stream is not back yet.
func (i *Instance) resumeHeld() {
	for _, a := range i.order {
		if a.state < StateFull && i.usable(a) && i.advertisedBy(a) {
			i.hold(a)
		}
	}
}
