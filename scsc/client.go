package scsc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
)

// ClientConfig configures a Client.
type ClientConfig struct {
	Target string // gRPC target of the SCSC
	Dial   []grpc.DialOption
	Node   dmsc.NodeID
	Domain string
	Logger *slog.Logger
	// OnConnected tells of the session's begin (true) and end (false).
	// OnPlan and OnPolicies hand over what the SCSC sends. They are called one
	// after the other on the Client's goroutine and should only pass an event
	// on. After a reconnect the SCSC repeats plan and set: report the status of
	// each policy again then. OnConnected may be nil.
	OnConnected func(bool)
	OnPlan      func(Plan)
	OnPolicies  func(PolicySet)
}

// Reconnecting waits minBackoff, doubling up to maxBackoff, ± 20 %.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 10 * time.Second
)

// Client is a node's session with the SCSC. Nothing it does ever blocks the
// node: reports and states wait in a mailbox of bounded size, newest first to
// count.
type Client struct {
	cfg   ClientConfig
	ready chan struct{} // capacity 1: the mailbox has something

	mu        sync.Mutex
	telemetry *Telemetry
	measured  time.Time
	statuses  []Status // at most one per policy
}

// NewClient returns a Client that does nothing until Run.
func NewClient(cfg ClientConfig) *Client {
	return &Client{cfg: cfg, ready: make(chan struct{}, 1)}
}

// Report sends telemetry, in place of one that has not been sent yet. Never
// blocks.
func (c *Client) Report(t Telemetry) {
	c.mu.Lock()
	c.telemetry, c.measured = &t, time.Now()
	c.mu.Unlock()
	c.wake()
}

// ReportStatus sends the state of a policy, in place of an older state of it
// that has not been sent yet. Never blocks.
func (c *Client) ReportStatus(s Status) {
	c.mu.Lock()
	c.statuses = slices.DeleteFunc(c.statuses, func(o Status) bool { return o.PolicyID == s.PolicyID })
	c.statuses = append(c.statuses, s)
	c.mu.Unlock()
	c.wake()
}

func (c *Client) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// Run keeps a session until ctx ends, and then returns nil. An SCSC that is
// away is no error: it is tried again after 0.1 to 10 s.
func (c *Client) Run(ctx context.Context) error {
	opts := append([]grpc.DialOption{
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minBackoff, Multiplier: 2, Jitter: 0.2, MaxDelay: maxBackoff},
			MinConnectTimeout: 2 * time.Second,
		}),
	}, c.cfg.Dial...)
	conn, err := grpc.NewClient(c.cfg.Target, opts...)
	if err != nil {
		return fmt.Errorf("dial scsc %s: %w", c.cfg.Target, err)
	}
	defer conn.Close()
	wait := minBackoff
	for ctx.Err() == nil {
		begun := time.Now()
		err := c.session(ctx, dmscv1.NewQoSServiceClient(conn))
		if ctx.Err() != nil {
			break
		}
		c.cfg.Logger.Info("scsc session ended, trying again", "err", err)
		if time.Since(begun) > maxBackoff {
			wait = minBackoff
		}
		if !sleep(ctx, time.Duration(float64(wait)*(0.8+0.4*rand.Float64()))) {
			break
		}
		wait = min(2*wait, maxBackoff)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *Client) session(ctx context.Context, svc dmscv1.QoSServiceClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := svc.Session(ctx, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	hello := &dmscv1.NodeHello{Node: string(c.cfg.Node), Domain: c.cfg.Domain}
	if err := stream.Send(&dmscv1.SessionRequest{Kind: &dmscv1.SessionRequest_Hello{Hello: hello}}); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("send hello: %w", err)
	}

	var sending sync.WaitGroup
	sending.Go(func() {
		defer cancel() // a failed Send ends Recv, which knows the reason
		c.send(ctx, stream)
	})
	defer sending.Wait()
	defer cancel()

	connected := false
	defer func() {
		if connected && c.cfg.OnConnected != nil {
			c.cfg.OnConnected(false)
		}
	}()
	for {
		m, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if !connected { // the SCSC has accepted the hello: it sends a plan at once
			connected = true
			if c.cfg.OnConnected != nil {
				c.cfg.OnConnected(true)
			}
		}
		switch k := m.GetKind().(type) {
		case *dmscv1.SessionResponse_Plan:
			c.cfg.OnPlan(planFromWire(k.Plan))
		case *dmscv1.SessionResponse_Policies:
			set, err := setFromWire(k.Policies)
			if err != nil {
				c.cfg.Logger.Error("policy set is refused, the former one stays", "err", err)
				continue
			}
			c.cfg.OnPolicies(set)
		}
	}
}

// send empties the mailbox into the stream until one of them fails.
func (c *Client) send(ctx context.Context, stream grpc.BidiStreamingClient[dmscv1.SessionRequest, dmscv1.SessionResponse]) {
	for seq := uint64(1); ; {
		c.mu.Lock()
		t, at, states := c.telemetry, c.measured, c.statuses
		c.telemetry, c.statuses = nil, nil
		c.mu.Unlock()
		for _, s := range states { // first: an ingress may wait for them
			if stream.Send(&dmscv1.SessionRequest{Kind: &dmscv1.SessionRequest_PolicyStatus{PolicyStatus: statusToWire(s)}}) != nil {
				return
			}
		}
		if t != nil {
			if stream.Send(&dmscv1.SessionRequest{Kind: &dmscv1.SessionRequest_Telemetry{Telemetry: telemetryToWire(seq, at, *t)}}) != nil {
				return
			}
			seq++
		}
		select {
		case <-ctx.Done():
			return
		case <-c.ready:
		}
	}
}
