package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// A link that turns slow is not dead: its adjacency stays, the SCSC moves the
// traffic within 5 s, and back, once, when the link has healed (draft §5(3)).
func TestADegradedLinkIsLeftWithin5sAndReturnedToOnce(t *testing.T) {
	n := start(t, qos)
	// The SCSC judges when it has samples of plain SPF's path.
	until(t, 15*time.Second, "the SCSC does not judge b/4 yet", func(ctx context.Context) error {
		var rows []struct{ Ingress, Prefix, State string }
		if err := lab.Get(ctx, n.SCSC.Health, "/api/v1/policies", &rows); err != nil {
			return err
		}
		for _, r := range rows {
			if r.Ingress == "sg-1" && r.Prefix == "b/4" && strings.EqualFold(r.State, "ok") {
				return nil
			}
		}
		return fmt.Errorf("%v", rows)
	})
	// The load itself must not be what makes links slow.
	const rps = 100
	load := n.load("sg-1", "b/4", "/", rps)
	defer load.Stop()
	calm := steady(t, load, rps/2)
	onLink := func(x lab.Result) bool { return strings.Contains(x.Via, "<sg-1>,<sr-2>") }
	offLink := func(x lab.Result) bool { return !onLink(x) }
	wait := func(limit time.Duration, from time.Time, what string, f func(lab.Result) bool) lab.Result {
		t.Helper()
		var x lab.Result
		until(t, limit, what, func(context.Context) (err error) {
			var found bool
			if x, found = lab.First(load.Since(from), from, f); !found {
				err = fmt.Errorf("%d answers since the change", len(load.Since(from)))
			}
			return err
		})
		return x
	}

	link := n.Link("sg-1", "sr-2")
	const delay = 80 * time.Millisecond
	fault := time.Now()
	link.SetDelay(delay)
	slow := wait(5*time.Second, fault, "no request was slow", func(x lab.Result) bool { return onLink(x) && x.Latency >= 2*delay })
	left := wait(10*time.Second, fault, "the traffic stays on the slow link", offLink)
	took := left.Start.Sub(fault)
	t.Logf("measured: a request over the slow link takes %v; the link was left %v after the fault, by %s, %v a request",
		ms(slow.Latency), ms(took), left.Via, ms(left.Latency))
	if took > 5*time.Second {
		t.Errorf("the slow link was left after %v, not within 5s", ms(took))
	}
	for _, a := range n.status(t, "sg-1").Adjacencies {
		if a.Neighbor == "sr-2" && a.State != "full" {
			t.Errorf("the adjacency over the slow link is %s: slow is not dead", a.State)
		}
	}

	steady(t, load, rps) // a while on the other path
	healed := time.Now()
	link.SetDelay(0)
	back := wait(20*time.Second, healed, "the traffic does not return", onLink)
	t.Logf("measured: the traffic was back on the healed link after %v", ms(back.Start.Sub(healed)))
	until(t, 5*time.Second, "the traffic does not stay", func(context.Context) error {
		if s := time.Since(back.Start); s < 3*time.Second {
			return fmt.Errorf("back for %v", s)
		}
		return nil
	})

	r := load.Stop().Between(calm, time.Now())
	// Requests that are under way while a route table is replaced may overtake
	// each other.
	const crossing = 100 * time.Millisecond
	for _, x := range r.Results {
		away := x.Start.After(left.Start.Add(crossing)) && x.Start.Before(back.Start)
		home := x.Start.After(back.Start.Add(crossing))
		if x.OK() && (away && onLink(x) || home && offLink(x)) {
			t.Errorf("%v after the fault a request went by %s: the traffic has to leave once and to return once", ms(x.Start.Sub(fault)), x.Via)
		}
	}
	nothingLost(t, "b/4 while a link is slow and heals", r)
}
