package bench

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/envoybin"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/internal/topology"
)

//go:embed eight.yaml
var eight []byte

// Options says what to run.
type Options struct {
	// Runs is how many networks are started, one after the other; each fault is
	// made once in each (a link that failed again and again would be damped).
	Runs     int
	Binary   string // the dmsc executable
	Envoy    envoybin.Binary
	Keep     string    // folder for files and logs; "" = a temporary one
	Progress io.Writer // a line per run; nil = none
}

// each calls f for every run, with a folder of its own.
func (o Options) each(f func(dir string) error) error {
	dir := o.Keep
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "dmsc-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	for i := range o.Runs {
		o.say("run %d of %d", i+1, o.Runs)
		if err := f(filepath.Join(dir, strconv.Itoa(i+1))); err != nil {
			return fmt.Errorf("run %d of %d: %w", i+1, o.Runs, err)
		}
	}
	return nil
}

// say tells how far the benchmark is.
func (o Options) say(format string, args ...any) {
	if o.Progress != nil {
		fmt.Fprintf(o.Progress, format+"\n", args...)
	}
}

// The limits of what is waited for; a network that needs longer has failed.
const (
	startLimit  = 30 * time.Second
	faultLimit  = 15 * time.Second
	look        = 200 * time.Millisecond // how often a network at work is asked whether it rests
	quiet       = 400 * time.Millisecond // without a new moment anywhere is rest
	secondEvent = time.Second            // after the first
)

// Convergence starts networks, breaks and heals them, and returns the figures.
// The error says what did not converge; what was measured until then is in the
// result all the same. Nothing is left running.
func Convergence(ctx context.Context, o Options) (*Result, error) {
	r := newResult()
	return r, o.each(func(dir string) error { return run(ctx, o, dir, r) })
}

// run starts a network, makes every fault and ends the network.
func run(ctx context.Context, o Options, dir string, r *Result) (err error) {
	t, err := topology.Parse("eight.yaml", eight)
	if err != nil {
		return err
	}
	started := time.Now()
	start, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	net, err := lab.Start(start, lab.Options{Topology: t, Unrecorded: true, Dir: dir, Binary: o.Binary, Envoy: o.Envoy})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer func() { err = errors.Join(err, net.Close()) }()
	b := &bench{net: net, result: r}
	if err := b.coldStart(start, started); err != nil {
		return err
	}
	if err := b.idle(ctx); err != nil {
		return err
	}
	return b.faults(ctx)
}

// bench breaks one network.
type bench struct {
	net    *lab.Network
	result *Result
	made   int // faults so far
}

// faults makes each fault once, and heals it. No link fails more often than it
// may return promptly.
func (b *bench) faults(ctx context.Context) error {
	const victim = "r3"
	if err := b.fault(ctx, fault{
		name: "kill", ends: []dmsc.NodeID{"r2", "r4"}, absent: victim, all: true,
		make: func() error { return b.net.KillNode(victim) },
	}); err != nil {
		return err
	}
	if err := b.fault(ctx, fault{
		name: "return", ends: []dmsc.NodeID{"r2", "r4"}, far: victim, all: true, good: true,
		make: func() error { return b.net.StartNode(ctx, victim) },
	}); err != nil {
		return err
	}
	for _, l := range []struct {
		name string
		a, b dmsc.NodeID
		set  func(*lab.Link, bool)
	}{
		{"cut", "r3", "r4", (*lab.Link).Cut},
		{"second cut", "r2", "r3", (*lab.Link).Cut}, // a second after the first was healed
		{"silent", "r1", "r2", (*lab.Link).Blackhole},
	} {
		link := b.net.Link(l.a, l.b)
		ends := []dmsc.NodeID{l.a, l.b}
		err := b.fault(ctx, fault{name: l.name, ends: ends, make: func() error { l.set(link, true); return nil }})
		if err != nil {
			return err
		}
		err = b.fault(ctx, fault{name: "heal after " + l.name, ends: ends, good: true, make: func() error { l.set(link, false); return nil }})
		if err != nil {
			return err
		}
	}
	return nil
}

// fault is something that happens to the network, good or bad.
type fault struct {
	name   string
	ends   []dmsc.NodeID // who sees it first
	far    dmsc.NodeID   // the neighbour they see come; "" = each other
	absent dmsc.NodeID   // who is gone
	all    bool          // every RIB changes
	good   bool          // counted from the first good probe
	make   func() error
}

// concerns reports whether a node stands at a link that the fault is about.
func (f fault) concerns(id dmsc.NodeID) bool {
	return id != "" && (id == f.absent || id == f.far || slices.Contains(f.ends, id))
}

// fault makes a fault, waits until the network is at rest and measures it.
func (b *bench) fault(ctx context.Context, f fault) error {
	ctx, cancel := context.WithTimeout(ctx, faultLimit)
	defer cancel()
	before := b.cpu()
	began := time.Now()
	if err := f.make(); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	lines, err := b.rest(ctx, f, began)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	agents, envoys := b.cpu().since(before)
	b.result.add(f.name, measure(f, lines, began.UnixNano()))
	if err := b.keep(f, lines, began.UnixNano()); err != nil {
		return err
	}
	if !f.good {
		b.result.count(f.name, "CPU of all agents until rest", "ms", milliseconds(agents))
		b.result.count(f.name, "CPU of all Envoys until rest", "ms", milliseconds(envoys))
		b.result.count(f.name, "publications per node", "", float64(publications(lines, began.UnixNano()))/float64(len(lines)))
	}
	// The next fault comes a second after this one, at the earliest.
	select {
	case <-time.After(time.Until(began.Add(secondEvent))):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// timelines are the moments of each node, oldest first.
type timelines map[dmsc.NodeID][]node.Moment

// rest waits until the network has drawn every conclusion and nothing moves.
func (b *bench) rest(ctx context.Context, f fault, began time.Time) (timelines, error) {
	var last error
	for {
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return nil, errors.Join(errors.New("the network does not converge"), last, context.Cause(ctx))
		}
		lines, err := b.timelines(ctx, f.absent)
		if err != nil {
			return nil, err
		}
		if last = settled(f, lines, began.UnixNano(), time.Now().UnixNano()); last == nil {
			return lines, nil
		}
	}
}

func (b *bench) timelines(ctx context.Context, absent dmsc.NodeID) (timelines, error) {
	lines := timelines{}
	for _, id := range b.net.IDs() {
		if id == absent {
			continue
		}
		var l []node.Moment
		if err := lab.Get(ctx, b.net.Node(id).Agent.Health, "/api/v1/timeline", &l); err != nil {
			return nil, fmt.Errorf("%s does not answer: %w", id, err)
		}
		lines[id] = l
	}
	return lines, nil
}

// settled tells what of a fault is still to come.
func settled(f fault, lines timelines, began, now int64) error {
	var changed []dmsc.NodeID
	for id, l := range lines {
		if n := len(l); n > 0 && now-l[n-1].UnixNano < int64(quiet) {
			return fmt.Errorf("%s: still at work", id)
		}
		computed, _ := lastComputed(l, began)
		if computed > 0 {
			changed = append(changed, id)
		}
		if _, acked := acknowledged(l, began); !acked {
			return fmt.Errorf("%s: its Envoy has not taken the last configuration", id)
		}
	}
	for _, id := range f.ends {
		if !slices.Contains(changed, id) {
			return fmt.Errorf("%s: has not noticed", id)
		}
	}
	if f.all && len(changed) != len(lines) {
		slices.Sort(changed)
		return fmt.Errorf("only %v have noticed", changed)
	}
	return nil
}

// lastComputed is when the last RIB that differs was computed after began; 0 if
// none was.
func lastComputed(l []node.Moment, began int64) (at int64, index int) {
	for i, m := range slices.Backward(l) {
		if m.UnixNano < began {
			break
		}
		if m.Step == node.StepComputed {
			return m.UnixNano, i
		}
	}
	return 0, -1
}

// acknowledged is when Envoy had the configuration that follows from the last
// RIB, or a newer one: at once, when it had it already.
func acknowledged(l []node.Moment, began int64) (at int64, ok bool) {
	_, i := lastComputed(l, began)
	if i < 0 {
		return 0, true
	}
	acked := ""
	for _, m := range l[:i] {
		if m.Step == node.StepAcked {
			acked = m.Version
		}
	}
	var versions []string
	for _, m := range l[i:] {
		switch {
		case m.Step == node.StepPublished && m.Version == acked:
			return m.UnixNano, true
		case m.Step == node.StepPublished:
			versions = append(versions, m.Version)
		case m.Step == node.StepAcked && slices.Contains(versions, m.Version):
			return m.UnixNano, true
		case m.Step == node.StepAcked:
			acked = m.Version
		}
	}
	return 0, false
}

// measure returns how long after from the last node had got to each phase.
func measure(f fault, lines timelines, began int64) map[Phase]time.Duration {
	from := began
	last := map[Phase]int64{}
	reach := func(p Phase, at int64) { last[p] = max(last[p], at) }
	answers := map[string]int64{} // of a link, its first good probe at either end
	for _, id := range f.ends {
		noticed, down := false, false
		for _, m := range lines[id] {
			far, _, _ := strings.Cut(m.Link, "#")
			switch about := f.concerns(dmsc.NodeID(far)); {
			case m.UnixNano < began:
			case m.Step == node.StepStreamDown && about && !down:
				down = true
				reach(Reset, m.UnixNano)
			case m.Step == node.StepChanged && slices.Contains(m.Changed, "topology") && !noticed:
				noticed = true
				reach(Detected, m.UnixNano)
			}
		}
	}
	if f.good {
		for id, l := range lines {
			for _, m := range l {
				far, _, _ := strings.Cut(m.Link, "#")
				if m.UnixNano < began || m.Step != node.StepProbeUp || !f.concerns(id) || !f.concerns(dmsc.NodeID(far)) {
					continue
				}
				link := min(string(id), far) + " " + max(string(id), far)
				if at, known := answers[link]; !known || m.UnixNano < at {
					answers[link] = m.UnixNano
				}
			}
		}
		for _, at := range answers {
			from = max(from, at)
		}
	}
	for _, l := range lines {
		computed, i := lastComputed(l, began)
		if i < 0 {
			continue
		}
		reach(Computed, computed)
		for _, m := range slices.Backward(l[:i]) {
			if m.Step == node.StepChanged {
				reach(Flooded, m.UnixNano)
				break
			}
		}
		for _, m := range l[i:] {
			if m.Step == node.StepPublished {
				reach(Published, m.UnixNano)
				break
			}
		}
		if at, ok := acknowledged(l, began); ok {
			reach(Acked, at)
		}
	}
	phases := map[Phase]time.Duration{}
	for p, at := range last {
		if at >= from { // what came before the good news does not follow from it
			phases[p] = time.Duration(at - from)
		}
	}
	return phases
}

// keep writes what the nodes noted, in one order, beside their logs: a line for
// each moment, by the time since the fault.
func (b *bench) keep(f fault, lines timelines, began int64) error {
	type entry struct {
		id dmsc.NodeID
		node.Moment
	}
	var all []entry
	for id, l := range lines {
		for _, m := range l {
			if m.UnixNano >= began {
				all = append(all, entry{id, m})
			}
		}
	}
	slices.SortFunc(all, func(x, y entry) int { return cmp.Or(cmp.Compare(x.UnixNano, y.UnixNano), cmp.Compare(x.id, y.id)) })
	var text strings.Builder
	fmt.Fprintf(&text, "%s at %s\n", f.name, time.Unix(0, began).UTC().Format(time.RFC3339Nano))
	for _, e := range all {
		fmt.Fprintf(&text, "%9.3f ms  %s  %-11s %s%s%s\n", float64(e.UnixNano-began)/1e6, e.id, e.Step, e.Link, strings.Join(e.Changed, " "), e.Version)
	}
	b.made++
	name := fmt.Sprintf("%02d-%s.txt", b.made, strings.ReplaceAll(f.name, " ", "-"))
	return os.WriteFile(b.net.Path("logs", name), []byte(text.String()), 0o644)
}

func publications(lines timelines, began int64) (n int) {
	for _, l := range lines {
		for _, m := range l {
			if m.Step == node.StepPublished && m.UnixNano >= began {
				n++
			}
		}
	}
	return n
}

// coldStart counts from before the first process was started, SPA and SCSC
// included, to the moment when every Envoy has every node and prefix.
func (b *bench) coldStart(ctx context.Context, started time.Time) error {
	f := fault{name: "cold start", all: true}
	if _, err := b.rest(ctx, f, started); err != nil {
		return fmt.Errorf("cold start: %w", err)
	}
	if err := b.net.WaitConverged(ctx); err != nil { // all names, and not only quiet
		return fmt.Errorf("cold start: %w", err)
	}
	lines, err := b.rest(ctx, f, started)
	if err != nil {
		return fmt.Errorf("cold start: %w", err)
	}
	b.result.add(f.name, measure(f, lines, started.UnixNano()))
	return b.keep(f, lines, started.UnixNano())
}

// idle is what the network needs to do nothing: probes, keepalives, reports.
func (b *bench) idle(ctx context.Context) error {
	before, began := b.cpu(), time.Now()
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	agents, envoys := b.cpu().since(before)
	took := time.Since(began).Seconds()
	b.result.count("idle", "CPU of all agents, each second", "ms", 1000*agents.Seconds()/took)
	b.result.count("idle", "CPU of all Envoys, each second", "ms", 1000*envoys.Seconds()/took)
	return nil
}

// usage is the CPU time of each process of a network.
type usage struct {
	agents, envoys map[*lab.Process]time.Duration
}

func (b *bench) cpu() usage {
	u := usage{map[*lab.Process]time.Duration{}, map[*lab.Process]time.Duration{}}
	for _, id := range b.net.IDs() {
		n := b.net.Node(id)
		u.agents[n.Agent.Process] = cpuTime(n.Agent.Process)
		u.envoys[n.Envoy.Process] = cpuTime(n.Envoy.Process)
	}
	return u
}

// since sums what those who live have used since before.
func (u usage) since(before usage) (agents, envoys time.Duration) {
	sum := func(now, then map[*lab.Process]time.Duration) (d time.Duration) {
		for p, used := range now {
			if used > 0 {
				d += used - then[p]
			}
		}
		return d
	}
	return sum(u.agents, before.agents), sum(u.envoys, before.envoys)
}
