package featuretests

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/spa"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait; only a failing test reaches it.
const patience = 20 * time.Second

// network is agents, each beside a fake Envoy, an SPA and perhaps an SCSC.
type network struct {
	t     *testing.T
	dir   string
	log   *slog.Logger
	nodes map[dmsc.NodeID]*agent
	spa   *spaUnit
	scsc  *centre // nil without
}

// newNetwork starts a network of links "a b" and waits until it has converged.
// Every pod may announce what is below a/, b/ and c/.
func newNetwork(t *testing.T, links ...string) *network {
	t.Helper()
	n := prepare(t, links...)
	n.start()
	return n
}

// prepare makes a network in which nothing runs but the SPA.
func prepare(t *testing.T, links ...string) *network {
	t.Helper()
	dir, err := os.MkdirTemp("", "dmsc") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &network{t: t, dir: dir, log: slog.New(slog.NewTextHandler(t.Output(), nil)), nodes: map[dmsc.NodeID]*agent{}}
	n.spa = &spaUnit{n: n, address: n.port()}
	n.spa.start(everything...)
	for _, l := range links {
		a, b, _ := strings.Cut(l, " ")
		n.link(dmsc.NodeID(a), dmsc.NodeID(b))
	}
	return n
}

// port holds a port for this test and returns its address.
func (n *network) port() string {
	n.t.Helper()
	p, err := lab.HoldPort()
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { p.Close() })
	return p.Addr()
}

// link joins two nodes, and makes those that are not there yet.
func (n *network) link(a, b dmsc.NodeID) {
	n.t.Helper()
	for _, ends := range [][2]dmsc.NodeID{{a, b}, {b, a}} {
		near, far := n.node(ends[0]), n.node(ends[1])
		l := config.Link{Neighbor: ends[1], ID: "0", Metric: 10, Fabric: near.cfg.Envoy.Fabric}
		if ends[0] < ends[1] {
			l.Dial = far.cfg.Listen.Peering
		}
		near.cfg.Links = append(near.cfg.Links, l)
	}
}

// node returns an agent that does not run, or the one of that name.
func (n *network) node(id dmsc.NodeID) *agent {
	n.t.Helper()
	if a := n.nodes[id]; a != nil {
		return a
	}
	dir := filepath.Join(n.dir, string(id))
	if err := os.Mkdir(dir, 0o700); err != nil {
		n.t.Fatal(err)
	}
	socket := func(name string) string { return "unix://" + filepath.Join(dir, name) }
	a := &agent{n: n, id: id, cfg: &config.Node{
		Node: id, Domain: "test", Role: dmsc.RoleSR, Transit: true, StateDir: dir, Lease: 30 * time.Second,
		Listen: config.NodeListen{API: n.port(), XDS: socket("xds"), Peering: n.port(), Health: socket("health")},
		Envoy:  config.Envoy{Probe: socket("probe"), Admin: socket("admin")},
		SPA:    config.Centres{Addresses: []string{n.spa.address}},
	}}
	if strings.HasPrefix(string(id), "sg-") {
		a.cfg.Role, a.cfg.Transit, a.cfg.Envoy.Ingress = dmsc.RoleSG, false, "127.0.0.1:15900" // nobody listens there
	}
	a.envoy = newEnvoy(n.t, string(id), filepath.Join(dir, "xds"), filepath.Join(dir, "probe"))
	a.cfg.Envoy.Fabric = a.envoy.fabric.Addr().String()
	n.nodes[id] = a
	return a
}

// start starts every Envoy and agent and waits until the network has converged.
func (n *network) start() {
	n.t.Helper()
	for _, a := range n.nodes {
		a.envoy.start()
		a.start()
	}
	n.converged()
}

// converged waits until every node is ready, every link is full, all databases
// are equal and everybody has computed the way to everybody, which good news
// lets wait a little. Absent nodes do not count.
func (n *network) converged(absent ...dmsc.NodeID) {
	n.t.Helper()
	n.until("the network has converged", func() error {
		digests := map[string][]dmsc.NodeID{}
		for id, a := range n.nodes {
			if slices.Contains(absent, id) {
				continue
			}
			s := a.Status()
			if !s.Ready {
				said, _ := json.Marshal(s)
				return fmt.Errorf("%s is not ready: %s", id, said)
			}
			for _, adj := range s.Adjacencies {
				if adj.State != "full" && !adj.IsObserver && !slices.Contains(absent, adj.Neighbor) {
					return fmt.Errorf("link %s to %s is %s", id, adj.Neighbor, adj.State)
				}
			}
			for other := range n.nodes {
				if other != id && !slices.Contains(absent, other) && !slices.ContainsFunc(s.FIB, func(e node.EntryStatus) bool { return e.Prefix == "dmsc/node/"+string(other) }) {
					return fmt.Errorf("%s has no way to %s", id, other)
				}
			}
			digests[s.LSDB.Digest] = append(digests[s.LSDB.Digest], id)
		}
		if len(digests) != 1 {
			return fmt.Errorf("databases differ: %v", digests)
		}
		return nil
	})
}

// until waits until check finds nothing wrong.
func (n *network) until(what string, check func() error) {
	n.t.Helper()
	within(n.t, patience, what, check)
}

func within(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	timeout := time.After(limit)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-timeout:
			t.Fatalf("after %v it is not so that %s: %v", limit, what, err)
		case <-tick.C:
		}
	}
}

// when is nil if something is so, and else says what is.
func when(so bool, format string, args ...any) error {
	if so {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// route says how a node reaches a prefix: "sr-1", "sr-1 sr-2" for ECMP,
// "local", "" for not at all.
func (n *network) route(id dmsc.NodeID, prefix string) string {
	for _, e := range n.nodes[id].Status().FIB {
		if e.Prefix != prefix {
			continue
		}
		if e.Local {
			return "local"
		}
		return strings.Join(e.NextHops, " ")
	}
	return ""
}

// routed waits until a node reaches a prefix in the given way.
func (n *network) routed(id dmsc.NodeID, prefix, way string) {
	n.t.Helper()
	n.until(fmt.Sprintf("%s reaches %s by %q", id, prefix, way), func() error {
		if got := n.route(id, prefix); got != way {
			return fmt.Errorf("it does by %q", got)
		}
		return nil
	})
}

// everywhere waits until every node reaches the prefixes.
func (n *network) everywhere(prefixes ...string) {
	n.t.Helper()
	n.until(fmt.Sprintf("all reach %v", prefixes), func() error {
		for id := range n.nodes {
			for _, p := range prefixes {
				if n.route(id, p) == "" {
					return fmt.Errorf("%s does not reach %s", id, p)
				}
			}
		}
		return nil
	})
}

// agent is one node: its configuration, its run and its Envoy.
type agent struct {
	n     *network
	id    dmsc.NodeID
	cfg   *config.Node
	envoy *envoy

	mu   sync.Mutex
	node *node.Node
	stop func() time.Duration
}

// start runs the agent until stop or the end of the test.
func (a *agent) start() {
	a.n.t.Helper()
	nd, err := node.New(a.cfg, a.n.log)
	if err != nil {
		a.n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- nd.Run(ctx) }()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.node = nd
	a.stop = sync.OnceValue(func() time.Duration {
		begun := time.Now()
		cancel()
		if err := <-done; err != nil {
			a.n.t.Errorf("%s: %v", a.id, err)
		}
		return time.Since(begun)
	})
	a.n.t.Cleanup(func() { a.stop() })
}

// Status is what the agent believes.
func (a *agent) Status() node.Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.node.Status()
}

// lsdb is the agent's database, and metrics its figures, as an operator reads
// them.
func (a *agent) lsdb() string    { return a.page("/api/v1/lsdb") }
func (a *agent) metrics() string { return a.page("/metrics") }

func (a *agent) page(page string) string {
	a.n.t.Helper()
	path := strings.TrimPrefix(a.cfg.Listen.Health, "unix://")
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("http://health" + page)
	if err != nil {
		a.n.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		a.n.t.Fatalf("%s of %s: %v, %s", page, a.id, err, body)
	}
	return string(body)
}

// record is what the agent has under a key; zero for nothing.
func (a *agent) record(key linkstate.Key) (row struct {
	Key, Origin, Order string
	Tombstone          bool
	Content            json.RawMessage
}) {
	a.n.t.Helper()
	rows := []struct {
		Key, Origin, Order string
		Tombstone          bool
		Content            json.RawMessage
	}{}
	if err := json.Unmarshal([]byte(a.lsdb()), &rows); err != nil {
		a.n.t.Fatal(err)
	}
	for _, r := range rows {
		if r.Key == key.String() {
			return r
		}
	}
	return row
}

// adjacency is the state of the agent's link to a neighbour.
func (a *agent) adjacency(to dmsc.NodeID) string {
	for _, adj := range a.Status().Adjacencies {
		if adj.Neighbor == to {
			return adj.State
		}
	}
	return "none"
}

// spaUnit is a real SPA on one address, which dies and comes back.
type spaUnit struct {
	n       *network
	address string
	*spa.Server
	stop func()
}

// everything lets any of the pods announce what is below a/, b/ and c/.
var everything = func() (grants []spa.Grant) {
	for _, holder := range []string{"pod-1", "pod-2", "pod-3"} {
		for _, p := range []string{"a", "b", "c"} {
			grants = append(grants, spa.Grant{Holder: holder, Prefix: dmsc.MustParsePrefix(p), Scope: spa.Subtree})
		}
	}
	return grants
}()

func (s *spaUnit) start(grants ...spa.Grant) {
	s.n.t.Helper()
	s.Server = spa.NewServer(spa.ServerConfig{Log: s.n.log})
	s.Reload(grants)
	s.stop = serve(s.n.t, s.address, s.Register)
	s.n.t.Cleanup(func() { s.stop() })
}

// serve runs a gRPC server at an address until it is stopped.
func serve(t *testing.T, address string, register func(*grpc.Server)) (stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(append(spa.ServerOptions(), grpc.WaitForHandlers(true))...)
	register(g)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(l) // ends with Stop
	}()
	return sync.OnceFunc(func() {
		g.Stop()
		<-done
	})
}
