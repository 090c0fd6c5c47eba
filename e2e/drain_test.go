package e2e_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// A router is taken out of service for maintenance as docs/operations.md says:
// drained, removed, restarted, first its agent and then all of it, and taken
// back. The requests of a/4, which may not be asked twice, go around it before
// it stops and through it again at the end, and none is lost on the way.
func TestNothingIsLostWhileARouterIsDrainedRestartedAndTakenBack(t *testing.T) {
	n := start(t, "")
	const victim = dmsc.NodeID("sr-2")
	load := n.load("sg-1", "a/4", "/sleep?ms=20", rate)
	defer load.Stop()
	calm := steady(t, load, rate/4)
	through(t, load, "before", func(x lab.Result) bool { return !around(x.Via, victim) })

	n.order(t, victim, "drain")
	through(t, load, "while it is drained", func(x lab.Result) bool { return around(x.Via, victim) })
	n.order(t, victim, "drain", "--remove", "--grace", "1s")
	n.outOfService(t, victim)
	removed := time.Now()

	// A drain outlives its agent.
	agent := n.Node(victim).Agent
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	<-agent.Done()
	steady(t, load, rate/4)
	if err := n.StartDaemon(agent); err != nil {
		t.Fatal(err)
	}
	n.outOfService(t, victim)
	steady(t, load, rate/2)

	// Nobody misses its Envoy either: the node may be stopped.
	if err := n.KillNode(victim); err != nil {
		t.Fatal(err)
	}
	steady(t, load, rate/2)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.StartNode(ctx, victim); err != nil {
		t.Fatal(err)
	}
	n.outOfService(t, victim)
	steady(t, load, rate/2)
	if i := slices.IndexFunc(load.Since(removed), func(x lab.Result) bool { return !around(x.Via, victim) }); i >= 0 {
		t.Errorf("a request went through the removed %s: %s", victim, load.Since(removed)[i])
	}

	at := time.Now()
	n.order(t, victim, "undrain")
	took := through(t, load, "after it was taken back", func(x lab.Result) bool { return !around(x.Via, victim) })
	t.Logf("measured: %s carried traffic again %v after undrain", victim, took)
	n.settle(t)
	steady(t, load, rate/2)
	all := load.Stop()
	nothingLost(t, "a/4 (not replay_safe) at 20 ms a request while sr-2 is drained, restarted and taken back", all.Between(calm, time.Now()))
	nothingLost(t, "of these, since undrain", all.Between(at, time.Now()))
}

// order runs dmsc drain or undrain on the machine of a node.
func (n *network) order(t *testing.T, id dmsc.NodeID, verb string, flags ...string) {
	t.Helper()
	at := time.Now()
	args := append([]string{verb, "--state-dir", filepath.Join(n.Node(id).Dir, "state")}, flags...)
	if code, stderr := dmscRun(t, nil, args...); code != 0 {
		t.Fatalf("dmsc %s ended with %d: %s", strings.Join(args, " "), code, stderr)
	}
	t.Logf("measured: dmsc %s of %s took %v", strings.Join(append([]string{verb}, flags...), " "), id, since(at))
}

// through waits until a load has gone a way for 50 requests in a row.
func through(t *testing.T, load *lab.Runner, when string, way func(lab.Result) bool) time.Duration {
	t.Helper()
	at := time.Now()
	return until(t, 15*time.Second, "the traffic goes another way "+when, func(context.Context) error {
		got := load.Since(at)
		if len(got) < 50 {
			return fmt.Errorf("%d answers", len(got))
		}
		for _, x := range got[len(got)-50:] {
			if !way(x) {
				return fmt.Errorf("%s", x)
			}
		}
		return nil
	})
}

// outOfService waits until a removed node is in sync with its neighbours again,
// and all nodes hold its record without a link.
func (n *network) outOfService(t *testing.T, id dmsc.NodeID) {
	t.Helper()
	until(t, 20*time.Second, string(id)+" is not out of service", func(ctx context.Context) error {
		s, err := n.Status(ctx, id)
		if err != nil {
			return err
		}
		if !s.Ready || s.Drain.Level != "removed" || !s.Drain.Done {
			return fmt.Errorf("ready %t, drain %+v", s.Ready, s.Drain)
		}
		for _, a := range s.Adjacencies {
			if a.State != "synced" {
				return fmt.Errorf("the link to %s is %s", a.Neighbor, a.State)
			}
		}
		for _, at := range n.IDs() {
			r, err := n.record(ctx, at, string(id)+".node")
			if err != nil {
				return err
			}
			if strings.Contains(string(r.Content), `"neighbor"`) {
				return fmt.Errorf("%s holds %s: %s", at, r.Key, r.Content)
			}
		}
		return nil
	})
}
