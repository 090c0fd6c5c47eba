package spa

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
)

// How a client looks for an SPA (design §9: SPA retry 0.1–10 s).
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 10 * time.Second
	openTimeout  = 5 * time.Second
	// retryFloor is the least pause before a denial that is not final is asked
	// about again.
	retryFloor = time.Second
)

// ClientConfig configures a Client. The callbacks are called one at a time, in
// the order of what happened, and may block; they may call Claim and Release.
type ClientConfig struct {
	Gateway dmsc.NodeID
	// Addresses of SPAs, each as good as the other. None: every claim waits.
	Addresses []string
	// Dial options; nil is plain text.
	Dial []grpc.DialOption
	// OnVerdicts gets the answers to a pod's newest claim, and later those of
	// them that change.
	OnVerdicts func(pod string, verdicts []Verdict)
	// OnAway tells that no SPA answers, and that one does again. It is called
	// on changes, and first when the first attempt has an outcome.
	OnAway func(away bool)
	Log    *slog.Logger
}

// Client asks an SPA about the claims of a gateway's pods. Claim and Release
// never block and may be called at any time from any goroutine.
type Client struct {
	cfg  ClientConfig
	away *bool // last told; nil before the first outcome; Run's alone

	mu     sync.Mutex // guards what follows
	claims map[string]*claim
	ask    map[string]bool // pods whose newest claim, or release, is to be sent
	last   uint64          // request id; unique across streams
	wake   chan struct{}   // of capacity 1: ask or a retry has changed
}

// claim is the newest claim of a pod.
type claim struct {
	prefixes []string
	token    []byte
	request  uint64    // that carries it on this stream, 0 = not sent
	retry    time.Time // when to ask again, zero = not
}

// NewClient returns a client that does nothing before Run.
func NewClient(cfg ClientConfig) *Client {
	if cfg.Dial == nil {
		cfg.Dial = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	return &Client{cfg: cfg, claims: map[string]*claim{}, ask: map[string]bool{}, wake: make(chan struct{}, 1)}
}

// Claim replaces what a pod claims and asks about all of it. Newer claims
// supersede older ones that are still waiting.
func (c *Client) Claim(pod string, prefixes []string, token []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims[pod] = &claim{prefixes: slices.Clone(prefixes), token: token}
	c.askLocked(pod)
}

// Release forgets a pod.
func (c *Client) Release(pod string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.claims[pod] == nil {
		return
	}
	delete(c.claims, pod)
	c.askLocked(pod)
}

func (c *Client) askLocked(pod string) {
	c.ask[pod] = true
	c.wakeUp()
}

func (c *Client) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run keeps a stream to one of the SPAs until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	if len(c.cfg.Addresses) == 0 {
		c.tell(true)
		<-ctx.Done()
		return nil
	}
	backoff, failed := firstBackoff, 0
	for i := 0; ; i = (i + 1) % len(c.cfg.Addresses) {
		begun := time.Now()
		served, err := c.session(ctx, c.cfg.Addresses[i])
		if ctx.Err() != nil {
			return nil
		}
		c.cfg.Log.Warn("spa stream ended", "address", c.cfg.Addresses[i], "err", err)
		if failed++; served {
			failed = 1 // the others have not been tried since
			if time.Since(begun) > backoff {
				backoff = firstBackoff
			}
		}
		if failed < len(c.cfg.Addresses) {
			continue
		}
		c.tell(true)
		select {
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		case <-ctx.Done():
			return nil
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

func (c *Client) tell(away bool) {
	if c.away == nil || *c.away != away {
		c.away = &away
		c.cfg.OnAway(away)
	}
}

// session asks one SPA until its stream ends. It reports whether the SPA was
// there at all.
func (c *Client) session(ctx context.Context, addr string) (served bool, err error) {
	// The keepalive finds an SPA that is gone without a word.
	options := append([]grpc.DialOption{grpc.WithDisableServiceConfig(), grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second})}, c.cfg.Dial...)
	conn, err := grpc.NewClient(addr, options...)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(openTimeout, cancel)
	stream, err := dmscv1.NewAuthenticationServiceClient(conn).Authenticate(ctx)
	if err != nil {
		return false, err
	}
	if _, err := stream.Header(); err != nil {
		return false, err
	}
	if !late.Stop() {
		return false, context.DeadlineExceeded
	}
	c.begin()
	c.tell(false)
	c.cfg.Log.Info("spa stream is up", "address", addr)

	// Answers are read whatever happens to requests, so that the two ends never
	// wait for each other; the session ends when both directions have.
	var reading sync.WaitGroup
	reading.Go(func() {
		defer cancel()
		for {
			resp, recvErr := stream.Recv()
			if recvErr != nil {
				err = recvErr
				return
			}
			c.take(resp)
		}
	})
	c.send(ctx, stream)
	cancel()
	reading.Wait()
	return true, err
}

// begin marks every live claim to be asked on a new stream.
func (c *Client) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.ask) // a new stream has nothing to be released from
	for pod, k := range c.claims {
		k.request, k.retry = 0, time.Time{}
		c.ask[pod] = true
	}
	c.wakeUp()
}

// send sends what is to be asked until the stream or ctx ends.
func (c *Client) send(ctx context.Context, stream dmscv1.AuthenticationService_AuthenticateClient) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-retry.C:
		}
		requests, next := c.due(time.Now())
		for _, r := range requests {
			if stream.Send(r) != nil { // Recv has the reason
				return
			}
		}
		retry.Stop()
		if !next.IsZero() {
			retry.Reset(time.Until(next))
		}
	}
}

// due takes the requests to send now, and the time of the next retry.
func (c *Client) due(now time.Time) (requests []*dmscv1.AuthenticateRequest, next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for pod, k := range c.claims {
		switch {
		case k.retry.IsZero():
		case !now.Before(k.retry):
			c.ask[pod] = true
		case next.IsZero() || k.retry.Before(next):
			next = k.retry
		}
	}
	for _, pod := range slices.Sorted(maps.Keys(c.ask)) {
		c.last++
		r := &dmscv1.AuthenticateRequest{RequestId: c.last, Gateway: string(c.cfg.Gateway), Pod: pod}
		if k := c.claims[pod]; k != nil {
			k.request, k.retry = c.last, time.Time{}
			r.Prefixes, r.Token = k.prefixes, k.token
		}
		requests = append(requests, r)
	}
	clear(c.ask)
	return requests, next
}

// take hands an answer or notification on, unless a newer claim, whose own
// answer will come, or a release has overtaken it.
func (c *Client) take(resp *dmscv1.AuthenticateResponse) {
	verdicts, ok := c.match(resp)
	if ok && len(verdicts) > 0 {
		c.cfg.OnVerdicts(resp.GetPod(), verdicts)
	}
}

func (c *Client) match(resp *dmscv1.AuthenticateResponse) ([]Verdict, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.claims[resp.GetPod()]
	if k == nil || resp.GetRequestId() != 0 && resp.GetRequestId() != k.request {
		return nil, false
	}
	verdicts := slices.DeleteFunc(fromWire(resp.GetVerdicts()), func(v Verdict) bool { return !slices.Contains(k.prefixes, v.Prefix) })
	for _, v := range verdicts {
		if v.Granted || v.Final {
			continue
		}
		pause := max(v.RetryAfter, retryFloor)
		pause += rand.N(pause / 4)
		if at := time.Now().Add(pause); k.retry.IsZero() || at.Before(k.retry) {
			k.retry = at
			c.wakeUp()
		}
	}
	return verdicts, true
}
