package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/spa"
)

// Requests per second under which things are broken. Each request is worked on
// at every hop, so a large network on one machine gets fewer.
const (
	rate         = 400
	largeRate    = 100
	largeNetwork = 12
)

// story is one telling.
type story struct {
	plan
	authority *spa.Authority     // decides as the SPA does
	allowed   *topology.Topology // what of the pods it allows
	net       *lab.Network
	report    *reporter
	opts      Options
	rate      int
}

// tell goes through the steps. A step reports what it saw; the error is for
// what keeps the story from going on.
func (s *story) tell(ctx context.Context, found bool) error {
	steps := []func(context.Context) error{s.starts, s.announces, s.refuses}
	if found {
		steps = append(steps, s.forwards, s.losesRouter, s.losesRouterAlone, s.slowsLink)
	} else {
		s.report.note("no prefix is announced, so there is nothing to ask for")
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// starts waits for the network to converge.
func (s *story) starts(ctx context.Context) error {
	s.report.say("envoy", true, map[string]any{"version": s.opts.Envoy.Version}, "envoy %s (%s)", s.opts.Envoy.Version, s.opts.Envoy.Path)
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := s.net.WaitConverged(wait); err != nil {
		return err
	}
	took := time.Since(s.report.started)
	digest, err := s.net.Converged(ctx)
	n := len(s.net.IDs())
	s.report.say("converged", err == nil, map[string]any{"ms": ms(took), "nodes": n, "links": s.net.Links(), "digest": digest},
		"%d agents and %d Envoys, %d adjacencies full, one database (%s) and every FIB acknowledged %.1f s after the first process started",
		n, n, s.net.Links(), digest, took.Seconds())
	return nil
}

// announces tells what the pods have announced.
func (s *story) announces(ctx context.Context) error {
	for _, id := range s.net.IDs() {
		st, err := s.net.Status(ctx, id)
		if err != nil {
			return err
		}
		by := map[string][]string{}
		for _, p := range st.Pods {
			if p.State == "announced" {
				by[p.Pod] = append(by[p.Pod], p.Prefix)
			}
		}
		for _, pod := range slices.Sorted(maps.Keys(by)) {
			prefixes := slices.Sorted(slices.Values(by[pod]))
			s.report.say("announced", true, map[string]any{"pod": pod, "gateway": id, "prefixes": prefixes},
				"%s announced %s at %s, allowed by the SPA", pod, strings.Join(prefixes, " "), id)
		}
	}
	return nil
}

// forwards sends requests and compares what the pod saw with what the Envoys
// counted (draft §6.2).
func (s *story) forwards(ctx context.Context) error {
	const count = 50
	before, err := s.counters(ctx)
	if err != nil {
		return err
	}
	seen := map[string]int{}
	var answer reply
	for range count {
		if answer, err = s.ask(ctx, false); err != nil {
			return err
		}
		seen[fmt.Sprintf("%d %s", answer.status, answer.via)]++
	}
	after, err := s.counters(ctx)
	if err != nil {
		return err
	}
	via := "<" + joinNodes(s.path, ">,<") + ">"
	counted := map[string]any{}
	agree := true
	for i, id := range s.path[:len(s.path)-1] {
		sent := after[id] - before[id]
		counted[string(id)+"→"+string(s.path[i+1])] = sent
		agree = agree && sent == count
	}
	s.report.say("path", agree && seen["200 "+via] == count, map[string]any{"via": answer.via, "requests": count, "envoy_counters": counted, "ms": ms(answer.took)},
		"%s from %s: %s, %d of %d answered 200 by %s; dmsc-via as the pod saw it: %s\nthe Envoys' own counters agree: %v",
		s.prefix, s.ingress, joinNodes(s.path, " → "), seen["200 "+via], count, answer.pod, answer.via, counted)
	return nil
}

// counters reads, for each node of the path, how many requests its Envoy has
// sent to the next-hop group of the name.
func (s *story) counters(ctx context.Context) (map[dmsc.NodeID]uint64, error) {
	out := map[dmsc.NodeID]uint64{}
	for i, id := range s.path[:len(s.path)-1] {
		// A group is named by its primaries; probes have clusters of their own.
		next := regexp.QuoteMeta(string(s.path[i+1]))
		counts, err := s.net.Node(id).Envoy.Counters(ctx, `^cluster\.dmsc/group/`+next+`[^.]*\.upstream_rq_completed$`)
		if err != nil {
			return nil, fmt.Errorf("read counters of %s: %w", id, err)
		}
		for _, n := range counts {
			out[id] += n
		}
	}
	return out, nil
}

// losesRouter kills a router's agent and Envoy under load.
func (s *story) losesRouter(ctx context.Context) error {
	if s.victim == "" {
		s.report.note("no router on this path can be lost without cutting it off: that step is left out")
		return nil
	}
	killed, report, err := s.underLoad(ctx, func() error { return s.net.KillNode(s.victim) }, 1500*time.Millisecond)
	if err != nil {
		return err
	}
	s.tellLoss("killed", killed, report, "%s's agent and Envoy got SIGKILL under %d requests/s", s.victim, s.rate)
	return s.returns(ctx, "returned")
}

// losesRouterAlone stops every agent first, so that only what the Envoys
// already hold can save the requests (design §5).
func (s *story) losesRouterAlone(ctx context.Context) error {
	if s.victim == "" {
		return nil
	}
	if !s.repaired {
		s.report.note("no node of this path has an alternate around %s: the same with all agents stopped is left out", s.victim)
		return nil
	}
	var agents []*lab.Process
	for _, id := range s.net.IDs() {
		agents = append(agents, s.net.Node(id).Agent.Process)
	}
	defer func() {
		for _, a := range agents {
			_ = a.Resume()
		}
	}()
	killed, report, err := s.underLoad(ctx, func() error {
		var errs []error
		for _, a := range agents {
			errs = append(errs, a.Pause())
		}
		return errors.Join(append(errs, s.net.Node(s.victim).Envoy.Kill())...)
	}, 1500*time.Millisecond)
	if err != nil {
		return err
	}
	s.tellLoss("killed_alone", killed, report, "with all %d agents stopped, so that only %s's Envoy can help itself, %s's Envoy got SIGKILL", len(agents), s.path[slices.Index(s.path, s.victim)-1], s.victim)
	for _, a := range agents {
		if err := a.Resume(); err != nil {
			return err
		}
	}
	return s.returns(ctx, "returned_alone")
}

// underLoad breaks something half a second into a load and goes on for a while.
func (s *story) underLoad(ctx context.Context, breakIt func() error, after time.Duration) (time.Time, lab.Report, error) {
	load := s.load()
	time.Sleep(500 * time.Millisecond)
	at := time.Now()
	err := breakIt()
	select {
	case <-time.After(after):
	case <-ctx.Done():
	}
	return at, load.Stop(), errors.Join(err, ctx.Err())
}

func (s *story) load() *lab.Runner {
	return lab.Load{
		Address: s.net.Node(s.ingress).Ingress, RPS: s.rate,
		Header: http.Header{"Dmsc-Service-Prefix": {s.prefix.String()}},
	}.Start()
}

// tellLoss reports what a fault cost. Of a service that is not replay-safe,
// requests already written to the dead hop may be lost.
func (s *story) tellLoss(step string, at time.Time, r lab.Report, format string, args ...any) {
	around := r.Between(at.Add(-100*time.Millisecond), at.Add(time.Second))
	detour, found := r.First(at, func(x lab.Result) bool { return !strings.Contains(x.Via, "<"+string(s.victim)+">") })
	ok := found && (len(r.Lost) == 0 || !s.safe && allInFlight(r.Lost))
	values := map[string]any{"sent": r.Sent, "lost": len(r.Lost), "gap_ms": ms(around.Gap), "max_ms": ms(r.Max)}
	way := "no answer on another path"
	if found {
		values["new_path_ms"], values["via"] = ms(detour.End().Sub(at)), detour.Via
		way = fmt.Sprintf("first answer on the new path after %.0f ms: %s", ms(detour.End().Sub(at)), detour.Via)
	}
	s.report.say(step, ok, values, "%s: %d of %d lost, longest gap %.0f ms, %s%s",
		fmt.Sprintf(format, args...), len(r.Lost), r.Sent, ms(around.Gap), way, lostText(r))
}

// allInFlight reports whether every lost request was in the dead hop: none was
// refused by a node that had no way for it, and each had been sent when the
// first of them ended. SIGKILL is not the end of the sockets: until the kernel
// has taken the process down, requests are written to the dead.
func allInFlight(lost []lab.Result) bool {
	closed := slices.MinFunc(lost, func(a, b lab.Result) int { return a.End().Compare(b.End()) }).End()
	return !slices.ContainsFunc(lost, func(x lab.Result) bool { return x.Start.After(closed) || x.Refusal != "" })
}

func lostText(r lab.Report) string {
	if len(r.Lost) == 0 {
		return ""
	}
	var b strings.Builder
	for _, l := range r.Lost[:min(len(r.Lost), 5)] {
		fmt.Fprintf(&b, "\nlost: %s", l)
	}
	return b.String()
}

// returns starts the victim again and waits for the traffic to be back.
func (s *story) returns(ctx context.Context, step string) error {
	load := s.load()
	at := time.Now()
	wait, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := s.net.StartNode(wait, s.victim)
	var back lab.Result
	if err == nil {
		err = lab.Until(wait, "traffic does not return", func(context.Context) error {
			var found bool
			if back, found = lab.First(load.Since(at), at, func(x lab.Result) bool { return x.OK() && strings.Contains(x.Via, "<"+string(s.victim)+">") }); !found {
				return fmt.Errorf("no request has gone through %s again", s.victim)
			}
			return s.net.WaitConverged(wait)
		})
	}
	r := load.Stop()
	if err != nil {
		return err
	}
	s.report.say(step, len(r.Lost) == 0, map[string]any{"ms": ms(back.End().Sub(at)), "sent": r.Sent, "lost": len(r.Lost)},
		"%s was started again and carried traffic after %.0f ms; %d of %d lost%s", s.victim, ms(back.End().Sub(at)), len(r.Lost), r.Sent, lostText(r))
	return nil
}

// reply is what came of one request.
type reply struct {
	status   int
	via, pod string
	hops     []string // dmsc-hop, innermost first
	took     time.Duration
}

// ask sends one request for the name of the story.
func (s *story) ask(ctx context.Context, trace bool) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.net.Node(s.ingress).Ingress+"/", nil)
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("dmsc-service-prefix", s.prefix.String())
	if trace {
		req.Header.Set("dmsc-trace", "1")
	}
	at := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return reply{
		status: resp.StatusCode, via: resp.Header.Get("x-echo-via"), pod: resp.Header.Get("x-echo-pod"),
		hops: resp.Header.Values("dmsc-hop"), took: time.Since(at),
	}, err
}

func joinNodes(nodes []dmsc.NodeID, sep string) string {
	var out []string
	for _, n := range nodes {
		out = append(out, string(n))
	}
	return strings.Join(out, sep)
}
