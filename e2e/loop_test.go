package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// Two FIBs that point at each other, as the translator makes them of two views
// that contradict: a request goes round once, and comes back as 508.
//
//	sg-1 → sr-1 ⇄ sr-2
func TestTwoContradictoryFIBsLoopOnceAndAnswer508(t *testing.T) {
	f := newFragments(t)
	f.start(f.router("sr-1", "sr-2", "sr-2"))
	f.start(f.router("sr-2", "sr-1", "sr-1"))
	f.start(f.ingress("sg-1", "sr-1", "sr-1"))

	const attempts = 1 + 4 // of the ingress, design §5
	at := time.Now()
	resp := f.get(t, "sg-1")
	took := since(at)
	if resp.StatusCode != http.StatusLoopDetected || resp.Header.Get("dmsc-error") != "loop; node=sr-1" {
		t.Errorf("%s %q, want 508 by sr-1", resp.Status, resp.Header.Get("dmsc-error"))
	}
	for _, c := range []struct {
		node    dmsc.NodeID
		counter string
		want    uint64
		what    string
	}{
		{"sg-1", "cluster.dmsc/group/sr-1.upstream_rq_retry", attempts - 1, "the ingress retries on dmsc-error"},
		{"sr-1", "http.dmsc_fabric.downstream_rq_total", 2 * attempts, "each attempt reaches sr-1 twice"},
		{"sr-2", "http.dmsc_fabric.downstream_rq_total", attempts, "each attempt reaches sr-2 once"},
		{"sr-1", "cluster.dmsc/group/sr-2.upstream_rq_total", attempts, "sr-1 sends each attempt on once"},
		{"sr-2", "cluster.dmsc/group/sr-1.upstream_rq_total", attempts, "sr-2 sends each attempt on once"},
		{"sr-1", "cluster.dmsc/group/sr-2.upstream_rq_retry", 0, "transit does not retry"},
		{"sr-2", "cluster.dmsc/group/sr-1.upstream_rq_retry", 0, "transit does not retry"},
		{"sr-1", "http.dmsc_fabric.downstream_rq_5xx", 2 * attempts, "sr-1 refuses each, and passes the refusal on"},
	} {
		if got := f.counter(t, c.node, c.counter); got != c.want {
			t.Errorf("%s of %s is %d, want %d: %s", c.counter, c.node, got, c.want, c.what)
		}
	}
	// An attempt that comes by the ingress's own demote listener (it has no
	// alternate) is counted on its way in and on its way out.
	sent, demoted := f.counter(t, "sg-1", "cluster.dmsc/group/sr-1.upstream_rq_total"), f.counter(t, "sg-1", "http.dmsc_demote.downstream_rq_total")
	if sent-demoted != attempts {
		t.Errorf("sg-1 sent %d requests, %d of them by its demote listener: %d left it, want %d: it tries once and again four times", sent, demoted, sent-demoted, attempts)
	}
	t.Logf("measured: a lasting loop is answered 508 after %v, %d attempts of one round each", took, attempts)
}

// The second FIB changes its mind while the ingress waits to try again: the
// client sees 200. The wire from sr-1 leads to sr-2 as it was for one request,
// then to sr-2 as it is after it has converged.
func TestALoopThatHealsCostsARetryAndNotTheRequest(t *testing.T) {
	f := newFragments(t)
	var served atomic.Int64
	pod := f.serve(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		w.Header().Set("x-via", strings.Join(r.Header.Values("dmsc-via"), ","))
	})
	f.start(f.router("sr-1", "wire", "sr-2"))
	f.start(f.router("sr-2", "sr-1", "sr-1"))
	f.start(f.deliverer("sr-2 healed", "sr-2", pod))
	f.start(f.ingress("sg-1", "sr-1", "sr-1"))
	var passed atomic.Int64
	f.proxy("wire", func() string {
		if passed.Add(1) == 1 {
			return f.address("sr-2")
		}
		return f.address("sr-2 healed")
	})

	at := time.Now()
	resp := f.get(t, "sg-1")
	took := since(at)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("x-via") != "<sg-1>,<sr-1>,<sr-2>" {
		t.Errorf("%s %q, via %s", resp.Status, resp.Header.Get("dmsc-error"), resp.Header.Get("x-via"))
	}
	if n := served.Load(); n != 1 {
		t.Errorf("the pod was asked %d times", n)
	}
	for counter, want := range map[string]uint64{
		"cluster.dmsc/group/sr-1.upstream_rq_retry": 1, "cluster.dmsc/group/sr-1.upstream_rq_retry_success": 1,
	} {
		if got := f.counter(t, "sg-1", counter); got != want {
			t.Errorf("%s of the ingress is %d, want %d", counter, got, want)
		}
	}
	if got := f.counter(t, "sr-2", "http.dmsc_fabric.downstream_rq_total"); got != 1 {
		t.Errorf("sr-2 was asked %d times before it healed", got)
	}
	t.Logf("measured: a loop that healed before the first retry cost %v", took)
}

// fragments are single Envoys with static configurations of the translator:
// parts of networks that no protocol would bring about on purpose.
type fragments struct {
	t      *testing.T
	dir    string
	group  *lab.Group
	ports  map[string]*lab.Port
	envoys map[dmsc.NodeID]*lab.Envoy // by the name of the process
}

// looping is the name that all fragments route.
var looping = dmsc.MustParsePrefix("x/1")

func newFragments(t *testing.T) *fragments {
	t.Helper()
	dir, err := os.MkdirTemp(root, "")
	if err != nil {
		t.Fatal(err)
	}
	f := &fragments{t: t, dir: dir, group: lab.NewGroup(), ports: map[string]*lab.Port{}, envoys: map[dmsc.NodeID]*lab.Envoy{}}
	t.Cleanup(func() {
		err := f.group.Stop(3 * time.Second)
		for _, p := range f.ports {
			err = errors.Join(err, p.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})
	return f
}

// address is where a name listens.
func (f *fragments) address(name string) string {
	f.t.Helper()
	if f.ports[name] == nil {
		p, err := lab.HoldPort()
		if err != nil {
			f.t.Fatal(err)
		}
		f.ports[name] = p
	}
	return f.ports[name].Addr()
}

// router is a node that believes that looping is behind next, which it reaches
// at the address of the name at.
func (f *fragments) router(id dmsc.NodeID, at string, next dmsc.NodeID) translator.State {
	hop := rib.NextHop{LinkKey: linkstate.LinkKey{Remote: next, ID: "0"}, Weight: 1}
	g := &rib.Group{Name: rib.GroupName([]rib.NextHop{hop}, nil), Primaries: []rib.NextHop{hop}}
	return translator.State{
		Node: id, Role: dmsc.RoleSR, Addrs: f.addrs(string(id)),
		RIB:        rib.NewRIB(id, &rib.Entry{Prefix: looping, Distance: 20, Egress: []dmsc.NodeID{"sg-9"}, Group: g}),
		Neighbours: []translator.Neighbour{{NextHop: hop, Data: f.address(at), Class: dmsc.Metro, Up: true}},
	}
}

// ingress is a router that pods ask.
func (f *fragments) ingress(id dmsc.NodeID, at string, next dmsc.NodeID) translator.State {
	s := f.router(id, at, next)
	s.Role, s.Addrs.Ingress = dmsc.RoleSG, f.address(string(id)+" ingress")
	return s
}

// deliverer is a node that has the pod itself; process names it.
func (f *fragments) deliverer(process string, id dmsc.NodeID, pod string) translator.State {
	return translator.State{
		Node: id, Role: dmsc.RoleSG, Addrs: f.addrs(process),
		RIB:      rib.NewRIB(id, &rib.Entry{Prefix: looping, Egress: []dmsc.NodeID{id}, Local: true}),
		Services: []translator.Service{{Prefix: looping, Address: pod, Weight: 1}},
	}
}

func (f *fragments) addrs(process string) translator.Addrs {
	file := func(what string) string {
		return "unix://" + filepath.Join(f.dir, strings.ReplaceAll(process, " ", "-")+"."+what)
	}
	return translator.Addrs{Fabric: f.address(process), Probe: file("probe"), Admin: file("admin")}
}

// start runs an Envoy on what the translator makes of a State.
func (f *fragments) start(s translator.State) {
	f.t.Helper()
	r, err := translator.Translate(s)
	if err == nil {
		err = xds.SetOf(r).Validate()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	boot, err := translator.Static(s.Node, s.Addrs, r)
	if err != nil {
		f.t.Fatal(err)
	}
	text, err := translator.YAML(boot)
	if err != nil {
		f.t.Fatal(err)
	}
	admin := strings.TrimPrefix(s.Addrs.Admin, "unix://")
	name := strings.TrimSuffix(filepath.Base(admin), ".admin")
	config := filepath.Join(f.dir, name+".yaml")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	e, err := lab.StartEnvoy(ctx, f.group, lab.EnvoyConfig{
		Name: name, Binary: envoy.Path, Bootstrap: config, Admin: admin, Log: filepath.Join(f.dir, name+".log"),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.envoys[dmsc.NodeID(name)] = e
}

func (f *fragments) get(t *testing.T, ingress string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.address(ingress+" ingress"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("dmsc-service-prefix", looping.String())
	resp, err := h1.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp
}

func (f *fragments) counter(t *testing.T, node dmsc.NodeID, name string) uint64 {
	t.Helper()
	counters, err := f.envoys[node].Counters(t.Context(), "^"+name+"$")
	if err != nil {
		t.Fatal(err)
	}
	n, ok := counters[name]
	if !ok {
		t.Fatalf("the Envoy of %s has no counter %s", node, name)
	}
	return n
}

// serve serves HTTP/1.1 until the end of the test and returns the address.
func (f *fragments) serve(handler http.HandlerFunc) string {
	return f.serveAt(f.address("pod"), &http.Server{Handler: handler})
}

// proxy passes HTTP/2 requests from the address of a name on to wherever
// target says at that moment.
func (f *fragments) proxy(name string, target func() string) {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: p}
	f.t.Cleanup(transport.CloseIdleConnections)
	f.serveAt(f.address(name), &http.Server{Protocols: p, Handler: &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target()})
			r.Out.Host = r.In.Host
		},
	}})
}

func (f *fragments) serveAt(addr string, s *http.Server) string {
	f.t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		f.t.Fatal(fmt.Errorf("serve: %w", err))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	f.t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return addr
}
