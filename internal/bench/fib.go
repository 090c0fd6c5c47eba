package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// FIBOptions says how large the tables are.
type FIBOptions struct {
	Options
	Sizes    []int // prefixes of the tables that are forwarded by; the first is what the others are compared with
	Prefixes int   // of the table that is changed
	RPS      int   // requests for the prefix whose way changes
	Changes  int   // of each kind
	Rounds   int   // of forwarding by each table
}

const (
	connections   = 4   // that requests are forwarded on
	roundRequests = 500 // in a round: short, so that what else happens meets all tables alike
	// between is what lies between two changes.
	between = 100 * time.Millisecond
)

// FIB measures a real Envoy behind our translator and xDS server: what it costs
// to forward by tables of different size, how long a table takes to load, and
// how long a change takes until the first request has come to the new next hop,
// step by step; the changes also with go-control-plane's SnapshotCache in the server's
// place. The next hops are Go servers in this process.
func FIB(ctx context.Context, o FIBOptions) (*Comparison, error) {
	f := &fibBench{FIBOptions: o, result: &Comparison{}}
	f.targets()
	return f.result, o.each(func(dir string) error {
		return errors.Join(f.forward(ctx, dir), f.features(ctx, dir), f.changes(ctx, dir))
	})
}

type fibBench struct {
	FIBOptions
	result *Comparison
}

func forwardingBy(prefixes int) string { return fmt.Sprintf("forwarding by %d prefixes", prefixes) }

// control is another Envoy with the smallest table: what differs between the two
// is noise.
func (f *fibBench) control() string { return forwardingBy(f.Sizes[0]) + ", another Envoy" }

func (f *fibBench) nextHop() string {
	return fmt.Sprintf("next hop changed (EDS), %d prefixes", f.Prefixes)
}
func (f *fibBench) moved() string { return fmt.Sprintf("one prefix of %d moved (RDS)", f.Prefixes) }

const (
	onNewPath = "change → first request on the new path"
	slower    = "CPU per request, × the smallest table"
)

func (f *fibBench) targets() {
	t := f.result.target
	for _, n := range f.Sizes {
		f.result.events = append(f.result.events, forwardingBy(n))
	}
	f.result.events = append(f.result.events, f.control())
	f.result.events = append(f.result.events, featureEvents()...)
	f.result.events = append(f.result.events, f.nextHop(), f.moved())
	if n := len(f.Sizes); n > 1 {
		t(forwardingBy(f.Sizes[n-1]), slower, "", ours, 1.05)
	}
	t(f.nextHop(), onNewPath, "ms", ours, 2)
	t(f.nextHop(), "requests failed", "", ours, 0)
	t(f.moved(), onNewPath, "ms", ours, 20)
	t(f.moved(), "requests failed", "", ours, 0)
}

// forward loads each table into an Envoy of its own, and forwards by one after
// the other in turn, there and back again.
func (f *fibBench) forward(ctx context.Context, dir string) (err error) {
	all := &planes{next: newNeighbours(ctx)}
	defer func() { err = errors.Join(err, all.close()) }()
	var events []string
	var prefixes [][]string
	for i, n := range append(slices.Clone(f.Sizes), f.Sizes[0]) {
		f.say("load %d prefixes", n)
		p, err := all.start(ctx, ours, filepath.Join(dir, fmt.Sprint("fib", i)), f.Envoy, n)
		if err != nil {
			return err
		}
		event := forwardingBy(n)
		if i == len(f.Sizes) {
			event = f.control()
		}
		if err := f.load(ctx, p, event); err != nil {
			return err
		}
		events, prefixes = append(events, event), append(prefixes, p.prefixes())
	}
	f.say("forward")
	return f.inTurn(ctx, all.planes, events, prefixes, slower)
}

// inTurn forwards by one plane after the other, there and back again, and adds
// what a request costs each, and against the first.
func (f *fibBench) inTurn(ctx context.Context, planes []*plane, events []string, prefixes [][]string, against string) error {
	ratios := make([][]float64, len(events))
	costs := make([][]float64, len(events))
	for round := range f.Rounds + 1 {
		cost := make([]float64, len(events))
		for step := range events {
			i := step
			if round%2 == 1 {
				i = len(events) - 1 - step
			}
			p := planes[i]
			began := cpuTime(p.envoy.Process)
			if err := drive(ctx, p.state.Addrs.Ingress, prefixes[i], roundRequests, uint64(round)); err != nil {
				return err
			}
			cost[i] = float64((cpuTime(p.envoy.Process) - began).Microseconds()) / roundRequests
		}
		for i, c := range cost {
			if round > 0 { // the first one warms up
				costs[i], ratios[i] = append(costs[i], c), append(ratios[i], c/cost[0])
			}
		}
	}
	for i, event := range events {
		f.result.add(event, "CPU per request", "µs", ours, median(costs[i]))
		if i > 0 {
			f.result.add(event, against, "", ours, median(ratios[i]))
		}
	}
	return nil
}

func median(v []float64) float64 { return quantile(slices.Sorted(slices.Values(v)), 0.5) }

// load gives an Envoy its table.
func (f *fibBench) load(ctx context.Context, p *plane, event string) error {
	before, err := p.allocated(ctx)
	if err != nil {
		return err
	}
	w, err := p.change(ctx, p.state, xds.Routes)
	if err != nil {
		return err
	}
	after, err := p.allocated(ctx)
	if err != nil {
		return err
	}
	f.result.add(event, "translate the table", "ms", p.kind, milliseconds(w.translated.Sub(w.began)))
	f.result.add(event, "validate and marshal it", "ms", p.kind, milliseconds(w.published.Sub(w.translated)))
	f.result.add(event, "load it into Envoy", "ms", p.kind, milliseconds(w.acked.Sub(w.published)))
	f.result.add(event, "memory of it in Envoy", "MB", p.kind, (after-before)/1e6)
	return nil
}

// changes makes each change again and again under load.
func (f *fibBench) changes(ctx context.Context, dir string) (err error) {
	all := &planes{next: newNeighbours(ctx)}
	defer func() { err = errors.Join(err, all.close()) }()
	for i, kind := range []string{ours, stockSnapshot} {
		p, err := all.start(ctx, kind, filepath.Join(dir, fmt.Sprint("change", i)), f.Envoy, f.Prefixes)
		if err != nil {
			return err
		}
		if _, err := p.change(ctx, p.state, xds.Routes); err != nil {
			return err
		}
	}
	for _, p := range all.planes {
		f.say("%s: next hops and prefixes change at %d requests a second", p.kind, f.RPS)
		for _, c := range []struct {
			event string
			typ   xds.Type
			to    translator.State
		}{{f.nextHop(), xds.Endpoints, p.with(true, false)}, {f.moved(), xds.Routes, p.with(false, true)}} {
			err := f.toggle(ctx, p, c.event, c.typ, c.to)
			if err == nil {
				err = f.quiet(ctx, p, c.event, c.typ, c.to)
			}
			if err != nil {
				return fmt.Errorf("%s: %s: %w", p.kind, c.event, err)
			}
		}
	}
	return nil
}

// quiet changes to a state and back without any requests: what that costs Envoy,
// whatever else this machine does.
func (f *fibBench) quiet(ctx context.Context, p *plane, event string, t xds.Type, to translator.State) error {
	for i := range f.Changes {
		state := to
		if i%2 == 1 {
			state = p.state
		}
		began := cpuTime(p.envoy.Process)
		if _, err := p.change(ctx, state, t); err != nil {
			return err
		}
		// The workers still have to take it.
		select {
		case <-time.After(between / 2):
		case <-ctx.Done():
			return ctx.Err()
		}
		f.result.add(event, "CPU time of Envoy, without requests", "ms", p.kind, milliseconds(cpuTime(p.envoy.Process)-began))
	}
	return nil
}

// toggle changes to a state and back, under load for the prefix concerned.
func (f *fibBench) toggle(ctx context.Context, p *plane, event string, t xds.Type, to translator.State) error {
	request := http.Header{"Dmsc-Service-Prefix": {p.probed.Prefix.String()}}
	load := lab.Load{Address: p.state.Addrs.Ingress, Header: request, RPS: f.RPS}.Start()
	defer load.Stop()
	began := time.Now()
	err := lab.Until(ctx, "the load does not run", func(context.Context) error {
		if got := load.Since(began); len(got) < 10 || !got[len(got)-1].OK() {
			return fmt.Errorf("%d answers", len(got))
		}
		return nil
	})
	if err != nil {
		return err
	}
	steady := time.Now()
	for i := range f.Changes {
		state, hop := to, p.other
		if i%2 == 1 {
			state, hop = p.state, p.nextHop
		}
		select {
		case <-time.After(between):
		case <-ctx.Done():
			return ctx.Err()
		}
		arrival := p.next.expect(hop)
		searched, stop := context.WithTimeout(ctx, planeLimit)
		var search errgroup.Group
		var answered time.Time
		search.Go(func() (err error) {
			answered, err = p.search(searched, hop)
			return err
		})
		w, err := p.change(ctx, state, t)
		err = errors.Join(err, search.Wait())
		stop()
		if err != nil {
			return err
		}
		f.record(event, p.kind, w, *arrival.at.Load(), answered)
	}
	r := load.Stop().Between(steady, time.Now())
	for _, lost := range r.Lost[:min(3, len(r.Lost))] {
		f.say("%s: %s: lost: %s", p.kind, event, lost)
	}
	f.result.add(event, "requests", "", p.kind, float64(r.Sent))
	f.result.add(event, "requests failed", "", p.kind, float64(len(r.Lost)))
	return nil
}

func (f *fibBench) record(event, kind string, w walk, arrived, answered time.Time) {
	add := func(what string, d time.Duration) { f.result.add(event, what, "ms", kind, milliseconds(d)) }
	add("translate", w.translated.Sub(w.began))
	add("publish (compile, validate)", w.published.Sub(w.translated))
	add("sent after", w.sent.Sub(w.began))
	add("ACKed after", w.acked.Sub(w.began))
	add(onNewPath, arrived.Sub(w.began))
	add("change → its answer", answered.Sub(w.began))
}

// search asks for the probed prefix again and again, beside the load, until a
// next hop answers that did not before. It returns when it had the answer.
func (p *plane) search(ctx context.Context, hop dmsc.NodeID) (time.Time, error) {
	c, err := dialRaw(ctx, p.state.Addrs.Ingress)
	if err != nil {
		return time.Time{}, err
	}
	defer c.Close()
	for ctx.Err() == nil {
		resp, err := c.get(p.probed.Prefix.String())
		if err != nil {
			return time.Time{}, err
		}
		if resp.Header.Get("x-echo-pod") == string(hop) {
			return time.Now(), nil
		}
	}
	return time.Time{}, fmt.Errorf("no request goes by way of %s: %w", hop, ctx.Err())
}

// drive sends requests for random prefixes, one after the other on each of a
// few connections, and fails unless all are answered well.
func drive(ctx context.Context, address string, prefixes []string, count int, seed uint64) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range connections {
		g.Go(func() error {
			c, err := dialRaw(ctx, address)
			if err != nil {
				return err
			}
			defer c.Close()
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			for range count / connections {
				prefix := prefixes[random.IntN(len(prefixes))]
				resp, err := c.get(prefix)
				if err != nil {
					return err
				}
				if resp.StatusCode != http.StatusOK {
					return fmt.Errorf("%s: %s %s", prefix, resp.Status, resp.Header.Get("dmsc-error"))
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// rawClient is a connection for requests that are sent once, one by one.
type rawClient struct {
	net.Conn
	in *bufio.Reader
}

func dialRaw(ctx context.Context, address string) (*rawClient, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &rawClient{c, bufio.NewReader(c)}, nil
}

func (c *rawClient) get(prefix string) (*http.Response, error) {
	if err := c.SetDeadline(time.Now().Add(planeLimit)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: bench\r\ndmsc-service-prefix: %s\r\n\r\n", prefix); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, err
}
