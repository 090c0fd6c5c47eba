package featuretests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/client"
)

// pod is a pod that uses our client. Its connection can be cut.
type pod struct {
	n        *network
	name     string
	withdraw func() // and end

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
	told  map[string][]client.Status // by prefix, oldest first
}

// service is one that nobody asks for its health.
func service(prefix string) client.Service {
	return client.Service{Prefix: prefix, Address: "127.0.0.1", Port: 8080, HealthPath: "-"}
}

// pod announces services at a gateway until withdraw or the end of the test.
func (n *network) pod(name, gateway string, services ...client.Service) *pod {
	n.t.Helper()
	return n.leased(name, gateway, 30*time.Second, services...)
}

func (n *network) leased(name, gateway string, lease time.Duration, services ...client.Service) *pod {
	n.t.Helper()
	p := &pod{n: n, name: name, told: map[string][]client.Status{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- client.Announce(ctx, client.Config{
			Gateway: n.nodes[dmsc.NodeID(gateway)].cfg.Listen.API, Pod: name, Services: services, Lease: lease,
			OnStatus: p.hear,
			DialOptions: []grpc.DialOption{
				grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(p.dial),
			},
		})
	}()
	p.withdraw = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("%s: %v", name, err)
		}
	})
	n.t.Cleanup(p.withdraw)
	return p
}

func (p *pod) hear(s client.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told[s.Prefix] = append(p.told[s.Prefix], s)
}

func (p *pod) dial(ctx context.Context, address string) (net.Conn, error) {
	p.mu.Lock()
	cut := p.cut
	p.mu.Unlock()
	if cut {
		return nil, errors.New("the pod is cut off")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err == nil {
		p.mu.Lock()
		p.conns = append(p.conns, c)
		p.mu.Unlock()
	}
	return c, err
}

// cutOff ends the pod's connection without a word, and keeps it ended.
func (p *pod) cutOff() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// status is what the gateway said last about a prefix.
func (p *pod) status(prefix string) client.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	if told := p.told[prefix]; len(told) > 0 {
		return told[len(told)-1]
	}
	return client.Status{}
}

// history are the states that the gateway told of a prefix, without repeats.
func (p *pod) history(prefix string) (states []client.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.told[prefix] {
		states = append(states, s.State)
	}
	return slices.Compact(states)
}

// hears waits until the gateway has told a state, and returns the status.
func (p *pod) hears(prefix string, state client.State) client.Status {
	p.n.t.Helper()
	p.n.until(fmt.Sprintf("%s hears that %s is %s", p.name, prefix, state), func() error {
		if s := p.status(prefix); s.State != state {
			return fmt.Errorf("it heard %+v", s)
		}
		return nil
	})
	return p.status(prefix)
}

// target is a service that answers its detection, well or not.
type target struct {
	client.Service
	sick atomic.Bool
	asks atomic.Int64
}

func (n *network) target(prefix string) *target {
	n.t.Helper()
	tg := &target{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		tg.asks.Add(1)
		if tg.sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	n.t.Cleanup(s.Close)
	host, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	tg.Service = client.Service{Prefix: prefix, Address: host}
	tg.Port, _ = strconv.Atoi(port)
	return tg
}

// rawStream is an announcement stream whose every word is the test's.
type rawStream struct {
	t *testing.T
	dmscv1.AnnouncementService_AnnounceClient
}

func (n *network) rawStream(gateway string) rawStream {
	n.t.Helper()
	conn, err := grpc.NewClient(n.nodes[dmsc.NodeID(gateway)].cfg.Listen.API, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	n.t.Cleanup(cancel)
	s, err := dmscv1.NewAnnouncementServiceClient(conn).Announce(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	return rawStream{n.t, s}
}

// announce sends one request.
func (s rawStream) announce(pod string, prefixes ...string) {
	s.t.Helper()
	r := &dmscv1.AnnounceRequest{Pod: pod, Lease: durationpb.New(30 * time.Second)}
	for _, p := range prefixes {
		r.Services = append(r.Services, &dmscv1.ServiceAnnouncement{Prefix: p, Address: "127.0.0.1", Port: 8080, HealthPath: "-"})
	}
	if err := s.Send(r); err != nil {
		s.t.Fatal(err)
	}
}

// statuses receives until the gateway has settled every prefix, and returns
// "prefix state code".
func (s rawStream) statuses() []string {
	s.t.Helper()
	for {
		resp, err := s.Recv()
		if err != nil {
			s.t.Fatal(err)
		}
		var out []string
		waiting := false
		for _, st := range resp.GetStatuses() {
			waiting = waiting || st.GetState() == dmscv1.PrefixState_PREFIX_STATE_PENDING
			out = append(out, fmt.Sprintf("%s %s %s", st.GetPrefix(), stateNames[st.GetState()], st.GetCode()))
		}
		if !waiting {
			return out
		}
	}
}

var stateNames = map[dmscv1.PrefixState]string{
	dmscv1.PrefixState_PREFIX_STATE_ANNOUNCED: "announced",
	dmscv1.PrefixState_PREFIX_STATE_DENIED:    "denied",
	dmscv1.PrefixState_PREFIX_STATE_WITHDRAWN: "withdrawn",
}
