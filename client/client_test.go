package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/client"
	"github.com/dmsc-mesh/dmsc/internal/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gateway is an SG of which a test sees every request and writes every answer.
type gateway struct {
	dmscv1.UnimplementedAnnouncementServiceServer
	address string
	answer  func(*dmscv1.AnnounceRequest) (*dmscv1.AnnounceResponse, error)

	mu   sync.Mutex
	seen []*dmscv1.AnnounceRequest
	g    *grpc.Server
	done chan struct{}
}

func announcedAll(r *dmscv1.AnnounceRequest) (*dmscv1.AnnounceResponse, error) {
	resp := &dmscv1.AnnounceResponse{Gateway: "sg-1"}
	for _, s := range r.GetServices() {
		resp.Statuses = append(resp.Statuses, &dmscv1.PrefixStatus{Prefix: s.GetPrefix(), State: dmscv1.PrefixState_PREFIX_STATE_ANNOUNCED})
	}
	if r.GetWithdraw() {
		resp.Statuses = []*dmscv1.PrefixStatus{{Prefix: "a/1", State: dmscv1.PrefixState_PREFIX_STATE_WITHDRAWN}}
	}
	return resp, nil
}

// newGateway takes an address; start serves on it.
func newGateway(t *testing.T) *gateway {
	t.Helper()
	p, err := lab.HoldPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	s := &gateway{address: p.Addr(), answer: announcedAll}
	t.Cleanup(s.stop)
	return s
}

func (s *gateway) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	s.g, s.done = grpc.NewServer(grpc.WaitForHandlers(true)), make(chan struct{})
	dmscv1.RegisterAnnouncementServiceServer(s.g, s)
	go func() {
		defer close(s.done)
		_ = s.g.Serve(l) // ends with Stop
	}()
}

func (s *gateway) stop() {
	if s.g != nil {
		s.g.Stop()
		<-s.done
	}
}

func (s *gateway) Announce(stream dmscv1.AnnouncementService_AnnounceServer) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.seen = append(s.seen, r)
		s.mu.Unlock()
		resp, err := s.answer(r)
		if err != nil {
			return err
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

// requests are what the gateway has got so far.
func (s *gateway) requests() []*dmscv1.AnnounceRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// announcer is Announce in the background.
type announcer struct {
	heard, away chan string
	cancel      context.CancelFunc
	done        chan error
}

func announce(t *testing.T, s *gateway, change func(*client.Config)) *announcer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	a := &announcer{heard: make(chan string, 64), away: make(chan string, 64), cancel: cancel, done: make(chan error, 1)}
	cfg := client.Config{
		Gateway: s.address, Pod: "pod-1", Services: []client.Service{{Prefix: "a/1", Port: 80}},
		OnStatus:     func(st client.Status) { a.heard <- st.Prefix + " " + string(st.State) },
		OnDisconnect: func(err error) { a.away <- err.Error() },
	}
	if change != nil {
		change(&cfg)
	}
	go func() { a.done <- client.Announce(ctx, cfg) }()
	return a
}

func next(t *testing.T, c <-chan string) string {
	t.Helper()
	select {
	case s := <-c:
		return s
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was heard")
		return ""
	}
}

func (a *announcer) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-a.done:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("Announce does not return")
		return nil
	}
}

func TestAnnounceRenewsAndWithdrawsWhenItEnds(t *testing.T) {
	s := newGateway(t)
	s.start(t)
	a := announce(t, s, func(c *client.Config) { c.Lease = time.Second })
	if got := next(t, a.heard); got != "a/1 announced" {
		t.Errorf("heard %q", got)
	}
	timeout := time.After(10 * time.Second)
	for len(s.requests()) < 3 { // the first, and renewals at a third of the lease
		select {
		case <-timeout:
			t.Fatalf("%d requests, no renewal", len(s.requests()))
		case <-time.After(5 * time.Millisecond):
		}
	}
	a.cancel()
	if err := a.end(t); err != nil {
		t.Errorf("Announce returns %v", err)
	}
	if got := next(t, a.heard); got != "a/1 withdrawn" {
		t.Errorf("heard %q at the end; renewals change no status", got)
	}
	all := s.requests()
	if !all[len(all)-1].GetWithdraw() || all[len(all)-1].GetPod() != "pod-1" {
		t.Errorf("the last request is %v", all[len(all)-1])
	}
}

// A lease is 30 s: a gateway that is back must not wait for gRPC's own backoff,
// which grows to two minutes.
func TestAGatewayThatIsAwayIsDialledAsOftenAsItIsTried(t *testing.T) {
	s := newGateway(t)
	var dials atomic.Int32
	a := announce(t, s, func(c *client.Config) {
		c.DialOptions = []grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				dials.Add(1)
				return (&net.Dialer{}).DialContext(ctx, "tcp", address)
			}),
		}
	})
	const tries = 5 // each failure doubles the wait
	for range tries {
		if got := next(t, a.away); !strings.Contains(got, s.address+" is away") {
			t.Errorf("heard %q", got)
		}
	}
	if got := dials.Load(); got < tries-1 {
		t.Errorf("%d tries, but only %d dials", tries, got)
	}
	s.start(t)
	next(t, a.heard)
	a.cancel()
	if err := a.end(t); err != nil {
		t.Error(err)
	}
}

func TestAGatewayThatRestartsIsToldAgainAndItsPodHearsOnlyNews(t *testing.T) {
	s := newGateway(t)
	s.start(t)
	a := announce(t, s, nil)
	next(t, a.heard)
	s.stop()
	next(t, a.away)
	s.answer = func(r *dmscv1.AnnounceRequest) (*dmscv1.AnnounceResponse, error) {
		resp, _ := announcedAll(r)
		resp.Statuses = append(resp.Statuses, &dmscv1.PrefixStatus{Prefix: "b/1", State: dmscv1.PrefixState_PREFIX_STATE_DENIED})
		return resp, nil
	}
	s.start(t)
	if got := next(t, a.heard); got != "b/1 denied" {
		t.Errorf("heard %q; of a/1 there is no news", got)
	}
	a.cancel()
	if err := a.end(t); err != nil {
		t.Error(err)
	}
}

func TestWhatNoWaitingMendsIsReturned(t *testing.T) {
	s := newGateway(t)
	s.answer = func(*dmscv1.AnnounceRequest) (*dmscv1.AnnounceResponse, error) {
		return nil, status.Error(codes.InvalidArgument, "announcement: pod: empty")
	}
	s.start(t)
	a := announce(t, s, nil)
	if err := a.end(t); err == nil || err.Error() != "announce at "+s.address+": announcement: pod: empty" {
		t.Errorf("Announce returns %v", err)
	}
}

func TestFaultsOfTheConfigurationAreToldBeforeAnythingIsDialled(t *testing.T) {
	for want, services := range map[string][]client.Service{
		"announce: no service is named":                   nil,
		"announce a/1: port 0 is not between 1 and 65535": {{Prefix: "a/1"}},
		"announce: service prefix \"a//1\"":               {{Prefix: "a//1", Port: 80}},
	} {
		err := client.Announce(t.Context(), client.Config{Gateway: "127.0.0.1:1", Pod: "pod-1", Services: services})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v gives %v, want %s…", services, err, want)
		}
	}
}

// A lease below zero would end the pod with a panic of its ticker.
func TestALeaseOutOfBoundsIsToldBeforeAnythingIsDialled(t *testing.T) {
	for _, lease := range []time.Duration{-time.Second, time.Nanosecond, 2 * time.Hour} {
		err := client.Announce(t.Context(), client.Config{
			Gateway: "127.0.0.1:1", Pod: "pod-1", Services: []client.Service{{Prefix: "a/1", Port: 80}}, Lease: lease,
		})
		if err == nil || !strings.Contains(err.Error(), "is not between 1s and 1h") {
			t.Errorf("lease %v gives %v", lease, err)
		}
	}
}
