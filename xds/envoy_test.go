package xds_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/lab/labtest"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// A real Envoy has the last word: clusters and routes are swapped under load,
// the server is killed and restarted, and a bad resource is refused once and
// healed. No request may fail at any point.
func TestRealEnvoy(t *testing.T) {
	for _, source := range []translator.Source{{}, {SotW: true}, {PerType: true}, {PerType: true, SotW: true}} {
		t.Run(fmt.Sprintf("per type %v, state of the world %v", source.PerType, source.SotW), func(t *testing.T) { realEnvoy(t, source) })
	}
}

func realEnvoy(t *testing.T, source translator.Source) {
	dir, err := os.MkdirTemp("", "xds") // short: a socket's path has 108 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	blue, green := backend(t), backend(t)
	port := freePort(t)
	set := func(name string, rev int, to int) xds.Set {
		s := simple(name)
		s.Clusters[0] = cluster(name, rev)
		s.Endpoints[0] = endpoints(name, to)
		s.Listeners[0] = listener("in", "table", port)
		return from(t, source, s)
	}

	var log recorder
	f := serve(t, xds.Config{Record: log.record})
	stop := listen(t, f.Server, filepath.Join(dir, "xds.sock"))
	first := f.publish("sg-1", set("blue", 0, blue))
	admin := startEnvoy(t, dir, source)
	f.expect(xds.Acked, first)

	load := startLoad(t, port)
	for rev := range 10 {
		name, to := "blue", blue
		if rev%2 == 0 {
			name, to = "green", green
		}
		start := time.Now()
		f.expect(xds.Acked, f.publish("sg-1", set(name, rev, to)))
		took := time.Since(start)
		if took > time.Second {
			t.Errorf("swap %d took %s: a gate was opened by the clock", rev, took)
		}
		load.more(100)
		t.Logf("swap %d to %s: everything accepted after %s", rev, name, took.Round(100*time.Microsecond))
	}
	changed := set("blue", 99, green) // the same cluster, its content changed
	start := time.Now()
	version := f.publish("sg-1", changed)
	f.expect(xds.Acked, version)
	if took := time.Since(start); took > time.Second {
		t.Errorf("changing a cluster took %s: a gate was opened by the clock", took)
	}
	// By type, Envoy asks for the endpoints of a changed cluster by a new stream,
	// and the old one may have accepted them first.
	for deadline := time.Now().Add(5 * time.Second); admin.stat(t, "cluster_manager.warming_clusters") != 0; time.Sleep(time.Millisecond) {
		if !source.PerType || time.Now().After(deadline) {
			t.Fatal("a cluster is still warming")
		}
	}
	admin.holds(t, "dynamic_active_clusters", f.status("sg-1").Types[xds.Clusters].Wanted)

	// Kill and restart the server with the same content: nothing is sent.
	updates := admin.stat(t, "cluster_manager.cds.update_success")
	stop()
	f.await(xds.Disconnected)
	load.more(100)
	var after recorder
	f = serve(t, xds.Config{Record: after.record})
	stop = listen(t, f.Server, filepath.Join(dir, "xds.sock"))
	if again := f.publish("sg-1", changed); again != version {
		t.Errorf("the restarted server calls the same content %s, before %s", again, version)
	}
	if !source.SotW {
		f.expect(xds.Acked, version)
		if sent := after.responses(); len(sent) != 0 {
			t.Errorf("a restarted server sent %v", sent)
		}
		if n := admin.stat(t, "cluster_manager.cds.update_success"); n != updates {
			t.Errorf("cds.update_success went from %d to %d", updates, n)
		}
	} else {
		f.expect(xds.Acked, version)
	}
	load.more(100)

	// A cluster that passes ValidateAll and that Envoy refuses.
	bad := set("blue", 99, green)
	bad.Clusters = append(bad.Clusters, cluster("rotten", 0))
	bad.Clusters[1].EdsClusterConfig.EdsConfig = nil
	bad.Endpoints = append(bad.Endpoints, endpoints("rotten", green))
	f.publish("sg-1", bad)
	nack := f.await(xds.Nacked).Nack
	t.Logf("refused: %v: %s", nack.Resources, nack.Message)
	if len(nack.Resources) != 1 || nack.Resources[0] != "rotten" {
		t.Errorf("nack %+v", nack)
	}
	load.more(200)
	if n := admin.stat(t, "cluster_manager.cds.update_rejected"); n != 1 {
		t.Errorf("%d refusals, want 1", n)
	}
	f.expect(xds.Acked, f.publish("sg-1", set("green", 5, green)))
	load.more(100)
	load.stop()
	total, failed := load.total.Load(), load.failed.Load()
	t.Logf("%d requests, %d failed", total, failed)
	if failed != 0 || total < 1000 {
		t.Errorf("%d of %d requests failed", failed, total)
	}
	stop()
}

// expect waits for an event of a kind and, for Acked, of a version. Streams of a
// cluster's endpoints may end meanwhile.
func (f *fixture) expect(kind xds.EventKind, version string) {
	f.t.Helper()
	if e := f.await(kind); e.Version != version {
		f.t.Fatalf("%s %s, want %s", kind, e.Version, version)
	}
}

type recorder struct {
	mu   sync.Mutex
	sent []string
}

func (r *recorder) record(rec xds.Record) {
	if m, ok := rec.Response.(*discoveryv3.DeltaDiscoveryResponse); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sent = append(r.sent, m.String())
	}
}

func (r *recorder) responses() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent
}

func listen(t *testing.T, srv *xds.Server, socket string) (stop func()) {
	t.Helper()
	lis, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(xds.ServerOptions()...)
	srv.Register(g)
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(lis) }()
	stop = sync.OnceFunc(func() { g.Stop(); <-done })
	t.Cleanup(stop)
	return stop
}

func backend(t *testing.T) (port int) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().(*net.TCPAddr).Port
}

func freePort(t *testing.T) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port
}

// from has a set take everything from source.
func from(t *testing.T, source translator.Source, set xds.Set) xds.Set {
	t.Helper()
	config := bootstrap(t, t.TempDir(), source).DynamicResources.CdsConfig
	for _, c := range set.Clusters {
		c.EdsClusterConfig.EdsConfig = config
	}
	for _, l := range set.Listeners {
		filter, hcm := l.FilterChains[0].Filters[0], &hcmv3.HttpConnectionManager{}
		if err := filter.GetTypedConfig().UnmarshalTo(hcm); err != nil {
			t.Fatal(err)
		}
		hcm.GetRds().ConfigSource = config
		filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(hcm)}
	}
	return set
}

func bootstrap(t *testing.T, dir string, source translator.Source) *bootstrapv3.Bootstrap {
	t.Helper()
	boot, err := translator.Bootstrap("sg-1", "unix://"+dir+"/admin.sock", "unix://"+dir+"/xds.sock")
	if err != nil {
		t.Fatal(err)
	}
	translator.SetSource(boot, source)
	return boot
}

type admin struct{ lab.Admin }

func startEnvoy(t *testing.T, dir string, source translator.Source) admin {
	t.Helper()
	text, err := translator.YAML(bootstrap(t, dir, source))
	if err != nil {
		t.Fatal(err)
	}
	return launchEnvoy(t, dir, text)
}

// launchEnvoy starts one whose admin listener is dir/admin.sock.
func launchEnvoy(t *testing.T, dir string, boot []byte) admin {
	t.Helper()
	config := filepath.Join(dir, "envoy.yaml")
	if err := os.WriteFile(config, boot, 0o600); err != nil {
		t.Fatal(err)
	}
	return admin{labtest.LaunchEnvoy(t, lab.EnvoyConfig{Name: "envoy", Bootstrap: config, Admin: filepath.Join(dir, "admin.sock")}).Admin}
}

func (a admin) get(t *testing.T, path string) string {
	t.Helper()
	body, err := a.Get(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func (a admin) stat(t *testing.T, name string) int {
	t.Helper()
	body := a.get(t, "/stats?filter=^"+regexp.QuoteMeta(name)+"$")
	m := regexp.MustCompile(`: (\d+)`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no stat %s: %q", name, body)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// holds checks that Envoy names the version of its clusters as we do.
func (a admin) holds(t *testing.T, key, version string) {
	t.Helper()
	var dump struct {
		Configs []map[string]any `json:"configs"`
	}
	if err := json.Unmarshal([]byte(a.get(t, "/config_dump")), &dump); err != nil {
		t.Fatal(err)
	}
	for _, c := range dump.Configs {
		if c[key] != nil {
			if c["version_info"] != version {
				t.Errorf("config_dump has %s at version_info %v, want %s", key, c["version_info"], version)
			}
			return
		}
	}
	t.Errorf("config_dump has no %s", key)
}

// load sends requests, one after another, on four connections.
type load struct {
	t             *testing.T
	total, failed atomic.Int64
	cancel        context.CancelFunc
	wg            sync.WaitGroup
}

func startLoad(t *testing.T, port int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, cancel: cancel}
	transport := &http.Transport{MaxIdleConnsPerHost: 4}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	for range 4 {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
				l.total.Add(1)
				if err != nil {
					l.failed.Add(1)
					t.Errorf("request: %v", err)
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					l.failed.Add(1)
					t.Errorf("request: %s", resp.Status)
				}
			}
		})
	}
	t.Cleanup(func() {
		l.stop()
		transport.CloseIdleConnections()
	})
	return l
}

// more waits for n more requests to have been answered.
func (l *load) more(n int64) {
	l.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for until := l.total.Load() + n; l.total.Load() < until; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatal("requests hang")
		}
	}
}

func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}
