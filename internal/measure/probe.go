package measure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/translator"
)

// Link is one link to probe.
type Link struct {
	linkstate.LinkKey
	Class dmsc.LinkClass
}

// Result is the outcome of one probe.
type Result struct {
	Link linkstate.LinkKey
	// OK: the node at the far end of the link answered out of its FIB.
	OK bool
	// Peer is who answered, also when it is not who should have; "" for nobody.
	Peer dmsc.NodeID
	// Generation of the far FIB.
	Generation string
	// RTT is from the request written to the first byte of the answer.
	RTT time.Duration
	// Cold: the first answer after a failure or the start. Its RTT may hold the
	// set-up of a connection between the Envoys.
	Cold bool
	Err  error // why not OK
}

// ProberConfig configures a Prober.
type ProberConfig struct {
	// Listener is the probe listener of the own Envoy: "host:port" or
	// "unix:///path".
	Listener string
	// OnResult is called from one goroutine per link, two with ProbeNow, and
	// must not block for long.
	OnResult func(Result)
}

// Prober asks the far ends of links whether they forward, at the interval of
// each link's class. Per link there is one regular probe in flight and one
// immediate one.
type Prober struct {
	cfg    ProberConfig
	client *http.Client

	mu      sync.Mutex
	wanted  map[linkstate.LinkKey]Link
	running map[linkstate.LinkKey]*prober
	ctx     context.Context // of Run; nil before
	probing sync.WaitGroup
}

// prober probes one link.
type prober struct {
	link Link
	stop context.CancelFunc
	now  chan struct{} // capacity 1: probe at once

	mu   sync.Mutex
	srtt time.Duration // smoothed over 8 answers; 0 = none yet
	warm bool          // the last probe was answered
}

// NewProber returns a Prober that does nothing until Run.
func NewProber(cfg ProberConfig) *Prober {
	return &Prober{
		cfg: cfg, client: newClient(cfg.Listener),
		wanted: make(map[linkstate.LinkKey]Link), running: make(map[linkstate.LinkKey]*prober),
	}
}

// newClient makes a client whose every request goes to one address, whatever
// its URL says, over connections that stay open.
func newClient(address string) *http.Client {
	network, addr := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		network, addr = "unix", path
	}
	var d net.Dialer
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, network, addr) },
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// SetLinks replaces the links to probe. Those that stay are not disturbed.
func (p *Prober) SetLinks(links []Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.wanted)
	for _, l := range links {
		p.wanted[l.LinkKey] = l
	}
	p.reconcile()
}

// reconcile starts and stops probers; p.mu is held.
func (p *Prober) reconcile() {
	if p.ctx == nil {
		return
	}
	maps.DeleteFunc(p.running, func(k linkstate.LinkKey, r *prober) bool {
		keep := p.wanted[k] == r.link
		if !keep {
			r.stop()
		}
		return !keep
	})
	for k, l := range p.wanted {
		if p.running[k] != nil {
			continue
		}
		ctx, stop := context.WithCancel(p.ctx)
		r := &prober{link: l, stop: stop, now: make(chan struct{}, 1)}
		p.running[k] = r
		p.probing.Go(func() { p.regularly(ctx, r) })
		p.probing.Go(func() { p.onDemand(ctx, r) })
	}
}

// ProbeNow probes a link at once, besides the regular probes. A link that is
// not probed is ignored.
func (p *Prober) ProbeNow(link linkstate.LinkKey) {
	p.mu.Lock()
	r := p.running[link]
	p.mu.Unlock()
	if r == nil {
		return
	}
	select {
	case r.now <- struct{}{}:
	default: // one is due already
	}
}

// Run probes until ctx ends; then it waits for the probes in flight.
func (p *Prober) Run(ctx context.Context) error {
	p.mu.Lock()
	if p.ctx != nil {
		p.mu.Unlock()
		return errors.New("measure: Prober runs already")
	}
	p.ctx = ctx
	p.reconcile()
	p.mu.Unlock()

	<-ctx.Done()
	p.mu.Lock()
	clear(p.wanted)
	p.reconcile()
	p.mu.Unlock()
	p.probing.Wait()
	p.client.CloseIdleConnections()
	return nil
}

func (p *Prober) regularly(ctx context.Context, r *prober) {
	tick := time.NewTicker(r.link.Class.ProbeInterval())
	defer tick.Stop()
	for {
		p.probe(ctx, r)
		select {
		case <-ctx.Done():
			return
		case <-tick.C: // at once, if the probe took longer than the interval
		}
	}
}

func (p *Prober) onDemand(ctx context.Context, r *prober) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.now:
			p.probe(ctx, r)
		}
	}
}

// probe asks once and tells the result, unless the link is no longer probed.
func (p *Prober) probe(ctx context.Context, r *prober) {
	res := Result{Link: r.link.LinkKey}
	begun, limit := time.Now(), r.timeout()
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	peer, generation, rtt, err := hello(timed, p.client, translator.ProbePath(r.link.LinkKey), nil)
	if ctx.Err() != nil || err != nil && stalled(time.Since(begun), limit) {
		return // the next regular probe tells
	}
	res.Peer, res.Generation, res.Err = peer, generation, err
	if err == nil && peer != r.link.Remote {
		res.Err = fmt.Errorf("probe of %s: %s answered", r.link.LinkKey, peer)
	}
	if res.OK = res.Err == nil; res.OK {
		res.RTT = rtt
	}
	res.Cold = r.note(res)
	p.cfg.OnResult(res)
}

// stalled reports whether a probe took so much longer than its limit that it
// was this process that did not run: it says nothing of the link.
func stalled(took, limit time.Duration) bool { return took > 2*limit }

// timeout is that of the link's class, and never below 4 × the smoothed RTT:
// slow is not dead (design §4).
func (r *prober) timeout() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(r.link.Class.ProbeTimeout(), 4*r.srtt)
}

// note keeps the smoothed RTT and reports whether the answer is a cold one.
func (r *prober) note(res Result) (cold bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cold = res.OK && !r.warm
	r.warm = res.OK
	switch {
	case !res.OK || cold:
	case r.srtt == 0:
		r.srtt = res.RTT
	default:
		r.srtt += (res.RTT - r.srtt) / 8
	}
	return cold
}

// ProbeSelf asks the Envoy behind a fabric listener for its hello: it says
// whether our own Envoy lives and serves a FIB, and that it is ours.
func ProbeSelf(ctx context.Context, listener string) (node dmsc.NodeID, generation string, err error) {
	client := newClient(listener)
	defer client.CloseIdleConnections()
	node, generation, _, err = hello(ctx, client, "/", http.Header{"Dmsc-Service-Prefix": {"dmsc/hello"}})
	return node, generation, err
}

// hello makes one request and reads who answered. The time is taken from the
// request written to the first byte of the answer, so the set-up of the
// connection to the own Envoy is never in it.
func hello(ctx context.Context, client *http.Client, path string, header http.Header) (node dmsc.NodeID, generation string, rtt time.Duration, err error) {
	begun := time.Now()
	var mu sync.Mutex // the trace is called from the transport's goroutines
	var wrote, first time.Time
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) {
			mu.Lock()
			defer mu.Unlock()
			wrote = time.Now()
		},
		GotFirstResponseByte: func() {
			mu.Lock()
			defer mu.Unlock()
			first = time.Now()
		},
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://dmsc"+path, nil)
	if err != nil {
		return "", "", 0, fmt.Errorf("probe %s: %w", path, err)
	}
	maps.Copy(req.Header, header)
	resp, err := client.Do(req)
	if err != nil {
		return "", "", 0, fmt.Errorf("probe %s: %w", path, err)
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // to the end, to keep the connection
	if err != nil {
		return "", "", 0, fmt.Errorf("probe %s: read answer: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", "", 0, fmt.Errorf("probe %s: status %d %s", path, resp.StatusCode, cmp.Or(resp.Header.Get("dmsc-error"), "without dmsc-error"))
	}
	node, err = dmsc.ParseNodeID(resp.Header.Get("dmsc-node"))
	if err != nil {
		return "", "", 0, fmt.Errorf("probe %s: answer without node: %w", path, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if wrote.IsZero() || wrote.After(first) { // the answer overtook the note of the writing
		wrote = begun
	}
	return node, resp.Header.Get("dmsc-generation"), first.Sub(wrote), nil
}
