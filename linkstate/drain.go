package linkstate

import (
	"fmt"

	"github.com/dmsc-mesh/dmsc"
)

// Drain is how far a node has been taken out of service for maintenance. Cost
// comes first, so that whatever can go another way has gone it before the links
// do (RFC 6987 for a node, and the same for what it owns).
type Drain uint8

// The steps of a drain, in order. An Instance begins in service: the agent keeps
// a drain over its restart and sets it again.
const (
	// DrainNone: in service.
	DrainNone Drain = iota
	// DrainCost: the node is a last resort for transit, and so is each of its
	// prefixes beside other owners, whatever their preference. Who has no other
	// way or no other owner goes on using it.
	DrainCost
	// DrainRemoved: its links are no longer advertised either, so nothing leads
	// here any more, and from here only to local pods. The control sessions stay.
	DrainRemoved
)

// ParseDrain reads none, cost or removed.
func ParseDrain(s string) (Drain, error) {
	for d := DrainNone; d <= DrainRemoved; d++ {
		if d.String() == s {
			return d, nil
		}
	}
	return DrainNone, fmt.Errorf("drain %q is not one of none, cost, removed", s)
}

func (d Drain) String() string { return [...]string{"none", "cost", "removed"}[d] }

func (i *Instance) onSetDrain(ev SetDrain) {
	if ev.Level > DrainRemoved || ev.Level != DrainNone && i.cfg.Role == dmsc.RoleObserver {
		i.alarm(AlarmBadEvent, "drain level %d: there is no such level, or nothing to drain on an observer", ev.Level)
		return
	}
	if i.drain == ev.Level {
		return
	}
	i.drain, i.nodeDirty, i.stale = ev.Level, true, true
	i.touchAll()
	i.wantPrefixes()
}

// drained makes an announcement the last resort of its prefix.
func drained(p Prefix) Prefix {
	p.Preference = 0
	p.Metric = min(p.Metric.Add(dmsc.LastResort), dmsc.Unreachable-1)
	return p
}

// settledDrain reports whether every neighbour has acknowledged our records as
// the drain wants them.
func (i *Instance) settledDrain() bool {
	if i.starting || i.nodeDirty || len(i.dirty) > 0 {
		return false
	}
	for _, a := range i.order {
		for k := range a.out.pending {
			if k.Origin == i.cfg.Node {
				return false
			}
		}
	}
	return true
}
