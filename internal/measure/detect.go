package measure

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// Target is a local instance that detects itself (draft §4.2(5)): over HTTP it
// answers its health path with 2xx and may add {"in_flight": n}; over gRPC it
// answers grpc.health.v1 for the service that the path names; without a path a
// TCP instance is asked by connecting, and any other is not asked.
type Target struct {
	Prefix     dmsc.ServicePrefix
	Address    string // host:port
	Protocol   dmsc.Protocol
	HealthPath string
}

func (t Target) detectable() bool { return t.HealthPath != "" || t.Protocol == dmsc.TCP }

// Detection is what a target says of itself.
type Detection struct {
	Target
	Healthy       bool
	Delay, Jitter time.Duration // median, and p95 - minimum, of the last answers
	InFlight      uint32        // 0 when it says nothing
	Err           error         // which check fails, at which address, and how; nil of a healthy one
}

// The rhythm of detection.
const (
	detectInterval = 500 * time.Millisecond
	detectTimeout  = time.Second
	detectSpan     = 3 * time.Second
	maxDetectBody  = 4 << 10
)

// Detector has the local targets detect themselves.
type Detector struct {
	onChange func(Detection)
	http1    *http.Client
	http2    *http.Client

	targets *watch[Target]

	mu    sync.Mutex
	found map[Target]Detection
}

// NewDetector returns a Detector that does nothing until Run. onChange is called
// when a target is first heard of, turns healthy or unhealthy, or fails in
// another way than before; may be nil.
func NewDetector(onChange func(Detection)) *Detector {
	client := func(h2 bool) *http.Client {
		p := new(http.Protocols)
		p.SetHTTP1(!h2)
		p.SetUnencryptedHTTP2(h2)
		return &http.Client{
			Transport:     &http.Transport{Protocols: p, IdleConnTimeout: time.Minute},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	d := &Detector{onChange: onChange, http1: client(false), http2: client(true), found: make(map[Target]Detection)}
	d.targets = newWatch(d.regularly)
	return d
}

// SetTargets replaces the targets; those that stay are not disturbed.
func (d *Detector) SetTargets(targets []Target) {
	wanted := make(map[Target]bool, len(targets))
	for _, t := range targets {
		if t.detectable() {
			wanted[t] = true
		}
	}
	d.targets.set(wanted)
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.found, func(t Target, _ Detection) bool { return !wanted[t] })
}

// Detections are the latest of each target that has been asked, sorted by
// (Prefix, Address).
func (d *Detector) Detections() []Detection {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Values(d.found), func(a, b Detection) int {
		return cmp.Or(a.Prefix.Compare(b.Prefix), cmp.Compare(a.Address, b.Address))
	})
}

// Run detects until ctx ends; then it waits for the requests in flight.
func (d *Detector) Run(ctx context.Context) error {
	defer d.http1.CloseIdleConnections()
	defer d.http2.CloseIdleConnections()
	return d.targets.run(ctx)
}

func (d *Detector) regularly(ctx context.Context, t Target) {
	window := Window{Span: detectSpan}
	warm := t.HealthPath == "" // a connect check measures the connect itself
	tick := time.NewTicker(detectInterval)
	defer tick.Stop()
	for {
		begun := time.Now()
		inFlight, err := d.ask(ctx, t)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		if err != nil {
			window.AddLost(now)
		} else {
			window.Add(now, now.Sub(begun), !warm)
		}
		warm = t.HealthPath == "" || err == nil
		q := window.Quality(now)
		d.note(ctx, Detection{t, err == nil, q.Median, q.Jitter, inFlight, err})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (d *Detector) note(ctx context.Context, now Detection) {
	d.mu.Lock()
	before, known := d.found[now.Target]
	if ctx.Err() == nil { // else SetTargets has just dropped it
		d.found[now.Target] = now
	}
	d.mu.Unlock()
	if d.onChange != nil && (!known || fmt.Sprint(before.Err) != fmt.Sprint(now.Err)) {
		d.onChange(now)
	}
}

// ask makes one detection request.
func (d *Detector) ask(ctx context.Context, t Target) (inFlight uint32, err error) {
	ctx, cancel := context.WithTimeout(ctx, detectTimeout)
	defer cancel()
	check := "GET " + t.HealthPath
	switch {
	case t.HealthPath == "":
		check, err = "connect", connect(ctx, t.Address)
	case t.Protocol == dmsc.GRPC:
		check, err = "grpc.health.v1 "+t.HealthPath, d.askGRPC(ctx, t)
	default:
		inFlight, err = d.askHTTP(ctx, t)
	}
	if err != nil {
		return 0, fmt.Errorf("%s at %s: %w", check, t.Address, bare(err))
	}
	return inFlight, nil
}

// bare takes from an error of the network what is said of the check already,
// and what differs from one try to the next.
func bare(err error) error {
	var op *net.OpError
	var request *url.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer within %v", detectTimeout)
	case errors.As(err, &op):
		return op.Err
	case errors.As(err, &request):
		return request.Err
	}
	return err
}

func connect(ctx context.Context, address string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (d *Detector) askHTTP(ctx context.Context, t Target) (inFlight uint32, err error) {
	client := d.http1
	if t.Protocol == dmsc.HTTP2 {
		client = d.http2
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.Address+t.HealthPath, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDetectBody))
	if err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return 0, fmt.Errorf("it answers %d", resp.StatusCode)
	}
	var self struct {
		InFlight uint32 `json:"in_flight"`
	}
	if json.Unmarshal(body, &self) != nil {
		return 0, nil // any other body is as good as none
	}
	return self.InFlight, nil
}
