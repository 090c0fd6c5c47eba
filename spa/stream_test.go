package spa

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
)

// network is in-memory SPAs by address, which come and go.
type network struct {
	mu   sync.Mutex
	spas map[string]*bufconn.Listener
}

// serve starts an SPA at addr and returns what ends it.
func (n *network) serve(addr string, s dmscv1.AuthenticationServiceServer) (stop func()) {
	l := bufconn.Listen(1 << 20)
	g := grpc.NewServer(ServerOptions()...)
	dmscv1.RegisterAuthenticationServiceServer(g, s)
	n.mu.Lock()
	if n.spas == nil {
		n.spas = map[string]*bufconn.Listener{}
	}
	n.spas[addr] = l
	n.mu.Unlock()
	go g.Serve(l)
	return func() {
		n.mu.Lock()
		delete(n.spas, addr)
		n.mu.Unlock()
		g.Stop()
	}
}

func (n *network) dial() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			n.mu.Lock()
			l := n.spas[addr]
			n.mu.Unlock()
			if l == nil {
				return nil, fmt.Errorf("connection refused")
			}
			return l.DialContext(ctx)
		}),
	}
}

// gateway is a client whose callbacks are written down.
type gateway struct {
	*Client
	mu  sync.Mutex
	log []string
}

func startGateway(t *testing.T, n *network, addrs ...string) *gateway {
	t.Helper()
	g := &gateway{}
	note := func(format string, args ...any) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.log = append(g.log, fmt.Sprintf(format, args...))
	}
	for i := range addrs {
		addrs[i] = "passthrough:///" + addrs[i]
	}
	g.Client = NewClient(ClientConfig{
		Gateway: "sg-1", Addresses: addrs, Dial: n.dial(), Log: testLog(t),
		OnVerdicts: func(pod string, verdicts []Verdict) {
			var words []string
			for _, v := range verdicts {
				if v.Granted {
					words = append(words, v.Prefix+"=granted")
				} else {
					words = append(words, fmt.Sprintf("%s=%s", v.Prefix, v.Code))
				}
			}
			note("%s %s", pod, strings.Join(words, " "))
		},
		OnAway: func(away bool) { note("away=%t", away) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return g
}

// want waits until nothing moves any more and compares what was noted since
// the last call.
func (g *gateway) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(g.log, lines) {
		t.Errorf("noted %q\nwant  %q", g.log, lines)
	}
	g.log = nil
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func grant(holder, prefix string) Grant {
	return Grant{Holder: holder, Prefix: dmsc.MustParsePrefix(prefix)}
}

func newServer(t *testing.T, grants ...Grant) *Server {
	s := NewServer(ServerConfig{Log: testLog(t)})
	s.Reload(grants)
	return s
}

// Draft §4.2(2): the SPA answers, and notifies when an answer changes.
func TestVerdictsAreAnsweredAndChangesArePushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n network
		s := newServer(t, grant("pod-1", "a/1"))
		defer n.serve("spa", s)()
		g := startGateway(t, &n, "spa")
		g.Claim("pod-1", []string{"a/1", "b/1"}, nil)
		g.want(t, "away=false", "pod-1 a/1=granted b/1=not_granted")

		s.Reload([]Grant{grant("pod-1", "a/1"), grant("pod-1", "b/1")})
		g.want(t, "pod-1 b/1=granted") // and nothing of a/1, which did not change

		s.Reload([]Grant{grant("pod-2", "a/1"), grant("pod-1", "b/1")})
		g.want(t, "pod-1 a/1=wrong_holder")

		g.Claim("pod-1", []string{"b/1"}, nil) // a/1 is claimed no more
		g.want(t, "pod-1 b/1=granted")
		s.Reload([]Grant{grant("pod-1", "a/1"), grant("pod-1", "b/1")})
		g.want(t)

		g.Release("pod-1")
		s.Reload(nil)
		g.want(t)
		if st := s.Status(); st.Generation != 5 || st.Grants != 0 || !slices.Equal(st.Gateways, []dmsc.NodeID{"sg-1"}) {
			t.Errorf("status %+v", st)
		}
	})
}

// Design §7: while the SPA is down new prefixes wait; every live claim is asked
// again when it is back.
func TestClaimsSurviveAnAbsentSPA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n network
		g := startGateway(t, &n, "spa")
		g.Claim("pod-1", []string{"a/1"}, nil)
		g.Claim("pod-2", []string{"b/1"}, nil)
		g.Claim("pod-1", []string{"a/1", "c/1"}, nil) // the newest one counts
		g.Claim("pod-3", []string{"d/1"}, nil)
		g.Release("pod-3")
		g.want(t, "away=true")
		time.Sleep(time.Minute)
		g.want(t) // said once

		s := newServer(t, grant("pod-1", "a/1"), grant("pod-2", "b/1"))
		stop := n.serve("spa", s)
		time.Sleep(lastBackoff)
		g.want(t, "away=false", "pod-1 a/1=granted c/1=not_granted", "pod-2 b/1=granted")

		stop()
		g.want(t, "away=true")
		g.Claim("pod-2", []string{"b/1", "e/1"}, nil)
		defer n.serve("spa", s)()
		time.Sleep(lastBackoff)
		g.want(t, "away=false", "pod-1 a/1=granted c/1=not_granted", "pod-2 b/1=granted e/1=not_granted")
	})
}

// A domain may have several SPAs; losing one of them is no absence.
func TestTheOtherSPAIsAskedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n network
		s := newServer(t, grant("pod-1", "a/1"))
		stop := n.serve("spa-2", s)
		g := startGateway(t, &n, "spa-1", "spa-2")
		g.Claim("pod-1", []string{"a/1"}, nil)
		g.want(t, "away=false", "pod-1 a/1=granted")
		defer n.serve("spa-1", s)()
		stop()
		g.want(t, "pod-1 a/1=granted")
	})
}

func TestWithoutAddressesEveryClaimWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := startGateway(t, &network{})
		g.Claim("pod-1", []string{"a/1"}, nil)
		g.want(t, "away=true")
	})
}

// What exceeds a limit is denied for now, alone, and asked again.
func TestTooManyPrefixesAreDeniedForNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n network
		defer n.serve("spa", newServer(t, grant("pod-1", "p/0"), grant("pod-1", "p/64")))()
		g := startGateway(t, &n, "spa")
		var prefixes []string
		for i := range MaxPrefixes + 1 {
			prefixes = append(prefixes, fmt.Sprintf("p/%d", i))
		}
		g.Claim("pod-1", prefixes, nil)
		synctest.Wait()
		g.mu.Lock()
		answers := strings.Join(g.log, "\n")
		g.log = nil
		g.mu.Unlock()
		if !strings.Contains(answers, "p/0=granted") || !strings.Contains(answers, "p/63=not_granted") || !strings.Contains(answers, "p/64=rate_limited") {
			t.Errorf("answers %s", answers)
		}
		time.Sleep(retryAfter - time.Millisecond)
		g.want(t)
		time.Sleep(retryAfter/4 + time.Millisecond) // the jitter ends before
		synctest.Wait()
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.log) != 1 {
			t.Errorf("asked again %d times, want once", len(g.log))
		}
	})
}

// An SPA that hangs with its connection open is found by the keepalive.
func TestAHangingSPAIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(1 << 20)
		defer l.Close()
		n := network{spas: map[string]*bufconn.Listener{"spa": l}} // nobody serves
		g := startGateway(t, &n, "spa")
		time.Sleep(openTimeout)
		g.want(t, "away=true")
	})
}

// A request that breaks the protocol ends the stream with the reason.
func TestRequestsThatBreakTheProtocolAreRefused(t *testing.T) {
	for _, c := range []struct {
		name     string
		requests []*dmscv1.AuthenticateRequest
		want     string
	}{
		{"no gateway", []*dmscv1.AuthenticateRequest{{RequestId: 1}}, "gateway: node id"},
		{"request id 0", []*dmscv1.AuthenticateRequest{{Gateway: "sg-1"}}, "request_id 0 is reserved"},
		{"two gateways", []*dmscv1.AuthenticateRequest{{Gateway: "sg-1", RequestId: 1}, {Gateway: "sg-2", RequestId: 2}}, "this stream is gateway sg-1's"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n network
				defer n.serve("spa", newServer(t))()
				conn, err := grpc.NewClient("passthrough:///spa", n.dial()...)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				stream, err := dmscv1.NewAuthenticationServiceClient(conn).Authenticate(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range c.requests {
					if err := stream.Send(r); err != nil {
						t.Fatal(err)
					}
				}
				for err == nil {
					_, err = stream.Recv()
				}
				if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.want) {
					t.Errorf("ended with %v, want %s", err, c.want)
				}
			})
		})
	}
}

// Claims and reloads that overtake each other end in the verdicts of the last
// claim under the last grants.
func TestTheNewestClaimIsNeverLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n network
		s := newServer(t)
		stop := n.serve("spa", s)
		last := map[string]string{} // pod/prefix → verdict, callbacks are serial
		var mu sync.Mutex
		c := NewClient(ClientConfig{
			Gateway: "sg-1", Addresses: []string{"passthrough:///spa"}, Dial: n.dial(), Log: slog.New(slog.DiscardHandler),
			OnVerdicts: func(pod string, verdicts []Verdict) {
				mu.Lock()
				defer mu.Unlock()
				for _, v := range verdicts {
					last[pod+" "+v.Prefix] = string(v.Code)
				}
			},
			OnAway: func(bool) {},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); c.Run(ctx) }()
		for round := range 50 {
			var wg sync.WaitGroup
			for p := range 8 {
				wg.Go(func() { c.Claim(fmt.Sprintf("pod-%d", p), []string{fmt.Sprintf("a/%d", round)}, nil) })
			}
			wg.Go(func() { s.Reload([]Grant{grant("pod-1", fmt.Sprintf("a/%d", round))}) })
			wg.Wait()
			if round%10 == 9 {
				stop()
				stop = n.serve("spa", s)
			}
		}
		time.Sleep(2 * lastBackoff)
		synctest.Wait()
		mu.Lock()
		for p := range 8 {
			want := string(WrongHolder)
			if p == 1 {
				want = ""
			}
			if got, ok := last[fmt.Sprintf("pod-%d a/49", p)]; !ok || got != want {
				t.Errorf("pod-%d: last verdict on a/49 is %q (%t), want %q", p, got, ok, want)
			}
		}
		mu.Unlock()
		cancel()
		<-done
		stop()
	})
}
