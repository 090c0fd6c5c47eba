package sim_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/sim"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
)

// coverage adds up what the simulations have seen.
type coverage struct {
	mu     sync.Mutex
	counts map[string]int
	wanted []string
}

func newCoverage() *coverage {
	c := &coverage{counts: map[string]int{}}
	for _, k := range sim.Kinds {
		c.wanted = append(c.wanted, "event "+k)
	}
	for class := range dmsc.LinkClass(3) {
		c.wanted = append(c.wanted, "link class "+class.String())
	}
	c.wanted = append(c.wanted,
		"network of 5 to 10", "network of 11 to 29", "network of 30 to 50", "network in parts", "network with reduced flooding", "lossy network", "default timers",
		"message lost", "message duplicated", "message reordered",
		"request delivered", "request retried", "request lost without path", "request repaired", "request pinned",
		"path kept", "path demoted", "path suspended", "attempt loop", "attempt no_route", "attempt no_healthy", "attempt starting",
		"computation full", "checked rib", "checked entry", "checked alternate", "checked walk",
	)
	return c
}

// watch looks for what a Report does not say.
func (c *coverage) watch(n *linkstatetest.Network) {
	onReady, seen := n.OnReady, false
	n.OnReady = func(id dmsc.NodeID, rd linkstate.Ready) {
		onReady(id, rd)
		if !seen && n.Instance(id).View().Flooding == linkstate.FloodingReduced {
			seen = true
			c.mu.Lock()
			defer c.mu.Unlock()
			c.counts["network with reduced flooding"]++
		}
	}
}

func (c *coverage) add(opts sim.Options, r *sim.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := "network of 30 to 50"
	switch {
	case r.Nodes <= 10:
		size = "network of 5 to 10"
	case r.Nodes < 30:
		size = "network of 11 to 29"
	}
	c.counts[size]++
	c.counts["seconds of virtual time"] += int(r.DurationMS / 1000)
	for kind, n := range r.ByKind {
		c.counts["event "+kind] += n
	}
	for _, l := range opts.Topology.Links {
		c.counts["link class "+l.Class.String()]++
	}
	for _, p := range r.Phases {
		if p.Parts > 1 {
			c.counts["network in parts"]++
		}
	}
	if opts.Loss > 0 {
		c.counts["lossy network"]++
	}
	if opts.Hold == 0 {
		c.counts["default timers"]++
	}
	for kind, n := range r.Runs {
		c.counts["computation "+kind] += n
	}
	q := r.Requests
	for _, k := range []struct {
		name string
		n    int
	}{
		{"message", r.Traffic.Messages}, {"message lost", r.Traffic.Lost}, {"message duplicated", r.Traffic.Duplicated},
		{"message reordered", r.Traffic.Reordered}, {"turn", r.Traffic.Turns},
		{"request", q.Sent}, {"request delivered", q.Delivered}, {"request retried", q.Retried},
		{"request lost with path", q.LostWithPath}, {"request lost without path", q.LostWithoutPath},
		{"request repaired", q.Repaired}, {"request pinned", q.Pinned}, {"path kept", q.PathsKept},
		{"path demoted", q.Demoted}, {"path suspended", q.Suspended}, {"attempt loop", q.Loops},
		{"attempt no_route", q.NoRoute}, {"attempt no_healthy", q.NoHealthy}, {"attempt starting", q.Starting},
		{"checked rest", r.Checks.Rests}, {"checked part", r.Checks.Parts}, {"checked rib", r.Checks.RIBs},
		{"checked entry", r.Checks.Entries}, {"checked alternate", r.Checks.Alternates}, {"checked walk", r.Checks.Walks},
	} {
		c.counts[k.name] += k.n
	}
}

// missing returns what should have been seen and was not.
func (c *coverage) missing() []string {
	return slices.DeleteFunc(slices.Clone(c.wanted), func(k string) bool { return c.counts[k] > 0 })
}

func (c *coverage) String() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(c.counts)) {
		fmt.Fprintf(&b, "%10d  %s\n", c.counts[k], k)
	}
	return b.String()
}
