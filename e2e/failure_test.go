package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// rate of the requests under which things are broken, per second.
const rate = 400

// load asks for a name at a gateway, so many times a second.
func (n *network) load(gateway dmsc.NodeID, name, path string, rps int) *lab.Runner {
	return lab.Load{
		Address: n.Node(gateway).Ingress, Path: path, RPS: rps,
		Header: http.Header{"Dmsc-Service-Prefix": {name}},
	}.Start()
}

// steady waits until so many more requests have been answered, the last count
// of them well, and returns when the first of these was sent.
func steady(t *testing.T, r *lab.Runner, count int) (from time.Time) {
	t.Helper()
	begun := time.Now()
	until(t, 15*time.Second, "the load does not run well", func(context.Context) error {
		got := r.Since(begun)
		if len(got) < count {
			return fmt.Errorf("%d answers", len(got))
		}
		got = got[len(got)-count:]
		if i := slices.IndexFunc(got, func(x lab.Result) bool { return !x.OK() }); i >= 0 {
			return fmt.Errorf("among the last: %s", got[i])
		}
		from = got[0].Start
		return nil
	})
	return from
}

// nothingLost fails the test when a load lost a request.
func nothingLost(t *testing.T, what string, r lab.Report) {
	t.Helper()
	t.Logf("measured: %s: %d of %d lost, p50 %v, p99 %v, max %v, longest gap %v", what, len(r.Lost), r.Sent,
		ms(r.P50), ms(r.P99), ms(r.Max), ms(r.Gap))
	if len(r.Lost) > 0 {
		t.Errorf("%s: %d of %d requests were lost:\n%v", what, len(r.Lost), r.Sent, head(r.Err()))
	}
}

func ms(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// head keeps an error readable.
func head(err error) string {
	lines := strings.Split(err.Error(), "\n")
	if len(lines) > 20 {
		lines = append(lines[:20], fmt.Sprintf("and %d more", len(lines)-20))
	}
	return strings.Join(lines, "\n")
}

// around reports whether a path keeps clear of a node.
func around(via string, id dmsc.NodeID) bool { return !strings.Contains(via, "<"+string(id)+">") }

// fall kills a router in the middle of a load and brings it back when the load
// has gone another way for a while.
func (n *network) fall(t *testing.T, victim dmsc.NodeID, load *lab.Runner) (at time.Time, r lab.Report) {
	t.Helper()
	calm := steady(t, load, rate/4)
	at = time.Now()
	if err := n.KillNode(victim); err != nil {
		t.Fatal(err)
	}
	until(t, 5*time.Second, "the traffic does not go another way", func(context.Context) error {
		if x, ok := lab.First(load.Since(at), at, func(x lab.Result) bool { return around(x.Via, victim) }); !ok || time.Since(x.End()) < time.Second {
			return fmt.Errorf("%d answers since the kill", len(load.Since(at)))
		}
		return nil
	})
	r = load.Stop().Between(calm, time.Now())
	first, _ := r.First(at, func(x lab.Result) bool { return around(x.Via, victim) })
	t.Logf("measured: SIGKILL of %s's agent and Envoy: first answer on the new path %v after, by %s; longest gap %v",
		victim, ms(first.End().Sub(at)), first.Via, ms(r.Between(at.Add(-100*time.Millisecond), at.Add(time.Second)).Gap))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.StartNode(ctx, victim); err != nil {
		t.Fatal(err)
	}
	n.settle(t)
	return at, r
}

// b/4 may be asked twice (replay_safe), so even what was written to the dead
// router is asked again.
func TestNothingIsLostWhenARouterIsKilledAndTheServiceIsReplaySafe(t *testing.T) {
	n := start(t, "")
	for range 3 {
		_, r := n.fall(t, "sr-2", n.load("sg-1", "b/4", "/", rate))
		nothingLost(t, "b/4 (replay_safe) while sr-2 is killed", r)
	}
	// Requests that take a while, so that many are under way in sr-2.
	_, r := n.fall(t, "sr-2", n.load("sg-1", "b/4", "/sleep?ms=50", rate))
	nothingLost(t, "b/4 (replay_safe) at 50 ms a request while sr-2 is killed", r)
}

// closing is how long after the first connection of the dead the last one is
// closed: each has a relay in between, which takes connections until it notices.
const closing = 50 * time.Millisecond

// a/4 and d/3 may not be asked twice: what was written to the dead router is
// lost, and nothing else. sg-2 has no alternate for d/3: what it cannot send
// waits for its new FIB.
func TestOnlyRequestsInTheDeadRouterAreLostWhenTheServiceIsNotReplaySafe(t *testing.T) {
	n := start(t, "")
	for _, c := range []struct {
		gateway, victim dmsc.NodeID
		name, path      string
	}{
		{"sg-1", "sr-2", "a/4", "/"}, {"sg-1", "sr-2", "a/4", "/"}, {"sg-1", "sr-2", "a/4", "/sleep?ms=50"},
		{"sg-2", "sr-1", "d/3", "/"}, {"sg-2", "sr-1", "d/3", "/"},
	} {
		at, r := n.fall(t, c.victim, n.load(c.gateway, c.name, c.path, rate))
		t.Logf("measured: %s%s (not replay_safe) at %s while %s is killed: %d of %d lost", c.name, c.path, c.gateway, c.victim, len(r.Lost), r.Sent)
		if len(r.Lost) == 0 {
			continue
		}
		// SIGKILL is not the end of the sockets: the kernel closes them when it has
		// taken the process down, and until then requests are written to the dead.
		closed := slices.MinFunc(r.Lost, func(a, b lab.Result) int { return a.End().Compare(b.End()) }).End()
		t.Logf("measured: the sockets of the dead were closed %v after SIGKILL", ms(closed.Sub(at)))
		for _, x := range r.Lost {
			t.Logf("lost: sent %v from the kill: %s", ms(x.Start.Sub(at)), x)
			switch {
			case x.Start.After(closed.Add(closing)):
				t.Errorf("lost though sent after the sockets were closed: %s", x)
			case x.Status != http.StatusServiceUnavailable || x.Refusal != "":
				// A refusal (dmsc-error) is of a request that no dead hop got.
				t.Errorf("lost, and not in the dead router: %s", x)
			}
		}
	}
}

// A gateway whose own Envoy stalls is left by its neighbours, and so by its
// routes. Its clients wait, and then go by the routes that the Envoy had.
func TestNothingIsLostWhenTheEnvoyOfAGatewayStalls(t *testing.T) {
	n := start(t, "")
	const victim = dmsc.NodeID("sg-1")
	load := n.load(victim, "b/4", "/", rate/4)
	defer load.Stop()
	calm := steady(t, load, rate/4)
	stalled := n.Node(victim).Envoy
	if err := stalled.Pause(); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "the agent does not notice", func(ctx context.Context) error {
		s, err := n.Status(ctx, victim)
		if err == nil && s.Envoy.DataPlane {
			err = errors.New("its data plane is up")
		}
		return err
	})
	if err := stalled.Resume(); err != nil {
		t.Fatal(err)
	}
	n.settle(t)
	steady(t, load, rate/4)
	nothingLost(t, "b/4 at a gateway whose Envoy stalls", load.Stop().Between(calm, time.Now()))
}
