package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// slowdown of a link, each way: far slower than the policy's 40 ms, and not
// dead by any link class.
const slowdown = 80 * time.Millisecond

// slowsLink slows a link in use: the adjacency stays, requests are slow, and
// the SCSC moves the traffic (draft §5(3), §5(4)); then heals it.
func (s *story) slowsLink(ctx context.Context) error {
	a, b := s.slow[0], s.slow[1]
	if a == "" {
		s.report.note("no link on this path can be avoided: that step is left out")
		return nil
	}
	load := s.load()
	defer load.Stop()
	time.Sleep(500 * time.Millisecond)
	slowLink := func(d time.Duration) {
		for _, l := range s.net.Between(a, b) { // parallel links would be a way around
			l.SetDelay(d)
		}
	}
	at := time.Now()
	slowLink(slowdown)
	defer slowLink(0)

	slow, err := s.await(ctx, load, 5*time.Second, at, func(x lab.Result) bool { return x.Latency >= 2*slowdown && onLink(x.Via, s.slow) })
	if err != nil {
		return err
	}
	state, err := s.adjacency(ctx)
	if err != nil {
		return err
	}
	s.report.say("slowed", state == "full", map[string]any{"link": fmt.Sprintf("%s–%s", a, b), "delay_ms": ms(slowdown), "request_ms": ms(slow.Latency), "adjacency": state},
		"the link %s–%s is slowed by %.0f ms each way: requests take %.0f ms, its adjacency stays %s", a, b, ms(slowdown), ms(slow.Latency), state)

	moved, err := s.await(ctx, load, 10*time.Second, at, func(x lab.Result) bool { return !onLink(x.Via, s.slow) })
	if err != nil {
		return err
	}
	policy, path, err := s.steered(ctx)
	if err != nil {
		return err
	}
	took := moved.End().Sub(at)
	// A path of two nodes is the neighbour itself and is not written out.
	pinned := path != "" || strings.Count(moved.Via, "<") == 2
	s.report.say("steered", policy != "" && pinned && took < 5*time.Second,
		map[string]any{"policy": policy, "dmsc_path": path, "ms": ms(took), "via": moved.Via, "request_ms": ms(moved.Latency)},
		"%.1f s after the fault the SCSC's policy %s has moved the traffic: %s, %.0f ms a request\nthe next hop received dmsc-path: %s",
		took.Seconds(), policy, moved.Via, ms(moved.Latency), path)

	healed := time.Now()
	slowLink(0)
	back, err := s.await(ctx, load, 20*time.Second, healed, func(x lab.Result) bool { return onLink(x.Via, s.slow) })
	if err != nil {
		return err
	}
	time.Sleep(time.Second) // a second look: it must not move again
	r := load.Stop()
	again := r.Between(back.Start.Add(500*time.Millisecond), time.Now())
	once := true
	for _, p := range again.Paths {
		once = once && onLink(p.Via, s.slow)
	}
	s.report.say("healed", once && len(r.Lost) == 0, map[string]any{"ms": ms(back.End().Sub(healed)), "sent": r.Sent, "lost": len(r.Lost), "once": once},
		"the link healed; %.1f s later the policy was withdrawn and the traffic back on %s; %d of %d lost in all of this%s",
		back.End().Sub(healed).Seconds(), back.Via, len(r.Lost), r.Sent, lostText(r))
	return nil
}

// await waits for a request of a running load that was started after at.
func (s *story) await(ctx context.Context, load *lab.Runner, limit time.Duration, at time.Time, f func(lab.Result) bool) (out lab.Result, err error) {
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = lab.Until(wait, "the traffic does not move", func(context.Context) error {
		var found bool
		since := load.Since(at)
		if out, found = lab.First(since, at, func(x lab.Result) bool { return x.OK() && f(x) }); !found {
			last := ""
			if len(since) > 0 {
				last = since[len(since)-1].Via
			}
			return fmt.Errorf("%d requests since the change, the last one by %s", len(since), last)
		}
		return nil
	})
	return out, err
}

// adjacency is the state of the slow link as its near end sees it.
func (s *story) adjacency(ctx context.Context) (string, error) {
	st, err := s.net.Status(ctx, s.slow[0])
	if err != nil {
		return "", err
	}
	for _, a := range st.Adjacencies {
		if a.Neighbor == s.slow[1] {
			return a.State, nil
		}
	}
	return "unknown", nil
}

// steered reports the policy in force at the ingress and the explicit path that
// arrived at its next hop.
func (s *story) steered(ctx context.Context) (policy, path string, err error) {
	st, err := s.net.Status(ctx, s.ingress)
	if err != nil {
		return "", "", err
	}
	for _, p := range st.Policies {
		if p.State == "live" && strings.Contains(p.ID, s.prefix.String()) {
			policy = p.ID
		}
	}
	answer, err := s.ask(ctx, true)
	if err != nil {
		return "", "", err
	}
	// The ingress is the last to add its hop, with the path as it left there;
	// the next hop may be the one that takes the path away.
	if n := len(answer.hops); n >= 2 {
		_, path, _ = strings.Cut(answer.hops[n-1], "path=")
	}
	return policy, strings.Trim(path, "-"), nil
}

// onLink reports whether a path uses a link.
func onLink[T ~string](via string, link [2]T) bool {
	return strings.Contains(via, fmt.Sprintf("<%s>,<%s>", link[0], link[1]))
}
