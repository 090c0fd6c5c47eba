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
	// Refused: our own Envoy answered, and said that it has no way to the far
	// end: connection refused or reset. Silence is not that.
	Refused bool
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
	// OnResult is called from a few goroutines per link, in the order of the
	// answers, and must not block for long.
	OnResult func(Result)
}

// inFlight is how many regular probes of a link may be under way: a probe that
// gets no answer does not delay the next one, since in each class the timeout
// is twice the interval. A connection that ends under both of them is one
// refusal, see prober.told: a short pause, of a machine or an Envoy, must not
// cost the three probes that end a link.
const inFlight = 2

// Prober asks the far ends of links whether they forward, at the interval of
// each link's class. Per link there are at most two regular probes in flight
// and one immediate one: three misses take two intervals and one timeout.
type Prober struct {
	cfg    ProberConfig
	client *http.Client
	links  *watch[Link]

	mu      sync.Mutex
	probers map[linkstate.LinkKey]*prober // at work
}

// prober probes one link.
type prober struct {
	link Link
	now  chan struct{} // capacity 1: probe at once

	mu      sync.Mutex
	srtt    time.Duration // smoothed over 8 answers; 0 = none yet
	warm    bool          // the last probe was answered
	refused time.Time     // when the far end refused last
}

// NewProber returns a Prober that does nothing until Run.
func NewProber(cfg ProberConfig) *Prober {
	p := &Prober{cfg: cfg, client: newClient(cfg.Listener), probers: make(map[linkstate.LinkKey]*prober)}
	p.links = newWatch(p.probeLink)
	return p
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
	wanted := make(map[Link]bool, len(links))
	for _, l := range links {
		wanted[l] = true
	}
	p.links.set(wanted)
}

// ProbeNow probes a link at once, besides the regular probes. A link that is
// not probed is ignored.
func (p *Prober) ProbeNow(link linkstate.LinkKey) {
	p.mu.Lock()
	r := p.probers[link]
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
	defer p.client.CloseIdleConnections()
	return p.links.run(ctx)
}

// probeLink probes a link at once, then regularly and on demand.
func (p *Prober) probeLink(ctx context.Context, l Link) {
	r := &prober{link: l, now: make(chan struct{}, 1)}
	r.now <- struct{}{}
	p.mu.Lock()
	p.probers[l.LinkKey] = r
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.probers[l.LinkKey] == r { // and not one of another class
			delete(p.probers, l.LinkKey)
		}
	}()

	tick := time.NewTicker(l.Class.ProbeInterval())
	defer tick.Stop()
	var probing sync.WaitGroup
	for range inFlight {
		probing.Go(func() { forEach(ctx, tick.C, func() { p.probe(ctx, r) }) })
	}
	probing.Go(func() { forEach(ctx, r.now, func() { p.probe(ctx, r) }) })
	probing.Wait()
}

// forEach calls f whenever c has something, until ctx ends.
func forEach[T any](ctx context.Context, c <-chan T, f func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c:
			f()
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
	res.Peer, res.Generation, res.Err, res.Refused = peer, generation, err, errors.Is(err, errRefused)
	if res.Refused && r.told(begun) {
		return
	}
	if err == nil && peer != r.link.Remote {
		res.Err = fmt.Errorf("probe of %s: %s answered", r.link.LinkKey, peer)
	}
	if res.OK = res.Err == nil; res.OK {
		res.RTT = rtt
	}
	res.Cold = r.note(res)
	p.cfg.OnResult(res)
}

// told reports whether a refusal has been told of since a probe began: the
// probes in flight on a connection that ends all come back at once, and say one
// thing.
func (r *prober) told(begun time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if begun.Before(r.refused) {
		return true
	}
	r.refused = time.Now()
	return false
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

// errRefused is the 503 of our own Envoy: nobody at the far end takes or keeps
// its connection.
var errRefused = errors.New("status 503: the far end refuses or resets connections")

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
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		return "", "", 0, fmt.Errorf("probe %s: %w", path, errRefused)
	default:
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
