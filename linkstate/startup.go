package linkstate

import (
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// While starting, our records are in our own database but leave to nobody, so
// that neighbours go on with those of our last life until we know which of its
// links are back.

// startUp ends the start-up phase once there is nothing left to wait for. With
// links configured and no neighbour synchronized it goes on: no link of ours
// could be used yet, and nothing computed from our database would be true.
func (i *Instance) startUp() {
	if !i.starting {
		return
	}
	switch {
	case !i.configured():
		if !i.ticked {
			return // the caller may still be about to name links
		}
	case !i.anySynced():
		return
	case i.now.Before(i.startUpEnds()) && !i.greetedAll():
		return
	}
	i.starting, i.nodeDirty, i.stale = false, true, true
	i.resumeHeld()
	i.publish()
	for l := range i.db.all().All() {
		if r := i.db.records[l.Key]; r.mine {
			for _, a := range i.order {
				i.enqueue(a, r, urgentAddition)
			}
		}
	}
}

// startUpEnds is the latest end of what startUp waits for besides a first
// synchronized neighbour; zero before the first stream.
func (i *Instance) startUpEnds() time.Time {
	if i.firstStream.IsZero() {
		return time.Time{}
	}
	return i.firstStream.Add(i.cfg.StartUp)
}

// configured reports whether there is a link to a neighbour, observers aside.
func (i *Instance) configured() bool {
	for _, a := range i.order {
		if !a.observer {
			return true
		}
	}
	return false
}

func (i *Instance) anySynced() bool {
	for _, a := range i.order {
		if !a.observer && a.phase() == StateSynced {
			return true
		}
	}
	return false
}

// greetedAll reports whether every neighbour that is there is synchronized and
// probed. A link whose stream is not back yet counts if the far end still
// advertises it: its first probe decides whether it is resumed.
func (i *Instance) greetedAll() bool {
	for _, a := range i.order {
		if a.observer {
			continue
		}
		if a.stream && a.phase() < StateSynced {
			return false
		}
		if !a.probed && (a.stream || i.advertisedBy(a)) && i.cfg.Role != dmsc.RoleObserver {
			return false
		}
	}
	return true
}

// advertisedBy reports whether the far end has the link in its NodeLSA.
func (i *Instance) advertisedBy(a *adjacency) bool {
	return hasLink(i.db.linksOf(a.Remote), LinkKey{i.cfg.Node, a.ID})
}

// resumeHeld is the restarting side of the graceful hold: a link that the far
// end has kept and whose data path is alive stays in our NodeLSA, though its
// stream is not back yet.
func (i *Instance) resumeHeld() {
	for _, a := range i.order {
		if a.state < StateFull && i.usable(a) && i.advertisedBy(a) {
			i.hold(a)
			a.resumed = true
		}
	}
}
