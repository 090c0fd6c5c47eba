package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/client"
)

// No header of a client but the name reaches the fabric or the pod (design §5,
// trust border).
func TestForgedHeadersHaveNoEffect(t *testing.T) {
	n := shared(t)
	for proto, c := range map[string]*http.Client{"h1": h1, "h2": h2} {
		for what, forged := range map[string]http.Header{
			"an explicit path": {"dmsc-path": {">sg-1>sr-1>sr-3>sg-4>"}},
			"a safe path":      {"dmsc-path": {"safe>sg-1>sr-1>sr-3>sg-4>"}},
			"the loop guard":   {"dmsc-via": {"<sg-1>,<sr-2>,<sg-4>"}},
			"the key":          {"dmsc-key": {"c/2"}},
			"an instance":      {"dmsc-instance": {"a/1"}},
			"a refusal":        {"dmsc-error": {"loop; node=sg-1"}},
			"hop and node":     {"dmsc-hop": {"sg-9;us=1"}, "dmsc-node": {"sr-1"}, "dmsc-generation": {"1"}},
			"new ones":         {"dmsc-whatever": {"1"}, "DMSC-Other": {"2"}},
			"underscores":      {"dmsc_path": {">sg-1>sr-1>"}, "dmsc_service_prefix": {"c/2"}, "DMSC_VIA": {"<sg-1>"}},
			"mixed":            {"dmsc-service_prefix": {"c/2"}, "dmsc_service-prefix": {"c/2"}},
			"keep-asides":      {"x-dmsc-keep-0": {"c/2"}, "x-dmsc-keep-1": {"1"}},
			"orders to Envoy":  {"x-envoy-retry-on": {"5xx"}, "x-envoy-max-retries": {"9"}, "x-envoy-upstream-rq-timeout-ms": {"1"}, "x-envoy-original-path": {"/x"}},
		} {
			header := maps.Clone(forged)
			header["dmsc-service-prefix"] = []string{"b/4"}
			n.expectOnlyOurs(t, proto+" with "+what, n.send(t, c, "sg-1", header), "b/4")
		}
	}
}

// Of a doubled name the first counts, and the pod sees one.
func TestADoubledNameIsTheFirstOfThem(t *testing.T) {
	n := shared(t)
	for proto, c := range map[string]*http.Client{"h1": h1, "h2": h2} {
		a := n.send(t, c, "sg-1", http.Header{"dmsc-service-prefix": {"b/4", "c/2"}})
		n.expectOnlyOurs(t, proto, a, "b/4")
		a = n.send(t, c, "sg-1", http.Header{"dmsc-service-prefix": {"b/4", "b/4"}})
		n.expectOnlyOurs(t, proto, a, "b/4")
	}
	// Only underscores: that is no name at all.
	for proto, c := range map[string]*http.Client{"h1": h1, "h2": h2} {
		if a := n.send(t, c, "sg-1", http.Header{"dmsc_service_prefix": {"b/4"}}); a.status != 404 || a.refusal != "no-prefix; node=sg-1" {
			t.Errorf("%s: a name with underscores: %d %q", proto, a.status, a.refusal)
		}
	}
}

// expectOnlyOurs checks that pod-4 was asked for name over the plain path, and
// saw the two headers that pods receive and nothing else of ours or Envoy's.
func (n *network) expectOnlyOurs(t *testing.T, what string, a answer, name string) {
	t.Helper()
	ours := map[string][]string{}
	for k, v := range a.echo.Headers {
		if strings.HasPrefix(k, "dmsc") || strings.HasPrefix(k, "x-envoy") && k != "x-envoy-external-address" {
			ours[k] = v
		}
	}
	want := map[string][]string{"dmsc-service-prefix": {name}, "dmsc-via": {"<sg-1>,<sr-2>,<sg-4>"}}
	if v := ours["dmsc-via"]; len(v) > 1 {
		ours["dmsc-via"] = []string{strings.Join(v, ",")}
	}
	if a.status != 200 || a.echo.Pod != "pod-4" || fmt.Sprint(ours) != fmt.Sprint(want) {
		t.Errorf("%s: %d by %q (%s), which saw %v; want %v", what, a.status, a.echo.Pod, a.refusal, ours, want)
	}
}

// A pod that says dmsc-error itself is not believed: its request is not sent
// again, and the client does not see the header.
func TestAPodThatForgesARefusalIsAskedOnce(t *testing.T) {
	n := shared(t)
	var served atomic.Int64
	n.announce(t, "sg-4", "test/rude", func(w http.ResponseWriter, _ *http.Request) {
		served.Add(1)
		h := w.Header()
		h.Set("dmsc-error", "no-healthy; node=sg-4")
		h.Set("dmsc-hop", "sg-9;us=1")
		h.Set("dmsc-node", "sg-9")
		h.Set("dmsc-generation", "9")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	for _, gw := range gateways {
		n.reachable(t, gw, "test/rude", 503)
		for proto, c := range map[string]*http.Client{"h1": h1, "h2": h2} {
			before := served.Load()
			a := n.send(t, c, gw, http.Header{"dmsc-service-prefix": {"test/rude"}})
			var forged []string
			for k := range a.header {
				if strings.HasPrefix(strings.ToLower(k), "dmsc-") {
					forged = append(forged, k)
				}
			}
			if times := served.Load() - before; a.status != 503 || times != 1 || len(forged) != 0 {
				t.Errorf("%s at %s: %d, the pod was asked %d times, the client saw %v", proto, gw, a.status, times, forged)
			}
		}
	}
}

// pod is a service of the test itself.
type pod struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu   sync.Mutex
	last client.Status
}

// announce serves handler and announces it as name at a gateway. The pod
// withdraws at the end of the test.
func (n *network) announce(t *testing.T, gateway dmsc.NodeID, name string, handler http.HandlerFunc, as ...func(*client.Service)) *pod {
	t.Helper()
	p := n.announceOnly(t, gateway, name, handler, 30*time.Second, as...)
	until(t, 5*time.Second, name+" is not announced", func(context.Context) error {
		if s := p.status(); s.State != client.Announced {
			return fmt.Errorf("%s %s", s.State, s.Reason)
		}
		return nil
	})
	return p
}

// announceOnly does not wait for the gateway's word.
func (n *network) announceOnly(t *testing.T, gateway dmsc.NodeID, name string, handler http.HandlerFunc, lease time.Duration, as ...func(*client.Service)) *pod {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/", handler)
	server := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	service := client.Service{Prefix: name, Address: "127.0.0.1", Port: number}
	for _, f := range as {
		f(&service)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	p := &pod{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		err := client.Announce(ctx, client.Config{
			Gateway: n.Node(gateway).Agent.Listen, Pod: "tester", Lease: lease,
			Services: []client.Service{service},
			OnStatus: func(s client.Status) {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.last = s
			},
		})
		if err != nil {
			t.Errorf("announce %s: %v", name, err)
		}
	}()
	t.Cleanup(func() {
		p.withdraw()
		_ = server.Close()
		<-served
	})
	return p
}

// withdraw ends the announcement and waits until the gateway has heard it.
func (p *pod) withdraw() {
	p.cancel()
	<-p.ended
}

func (p *pod) status() client.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// reachable waits until a name is answered by a pod with status.
func (n *network) reachable(t *testing.T, gateway dmsc.NodeID, name string, status int) time.Duration {
	t.Helper()
	return until(t, 5*time.Second, fmt.Sprintf("%s at %s", name, gateway), func(context.Context) error {
		if a := n.get(t, gateway, name); a.status != status || a.refusal != "" {
			return fmt.Errorf("%d %s", a.status, a.refusal)
		}
		return nil
	})
}
