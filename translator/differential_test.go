package translator_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typesv3 "github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/lab/labtest"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// One Envoy is served by go-control-plane's own server and SnapshotCache,
// another by ours. Whatever state they are given, both end up running the
// same. Ours is one Envoy that goes through all states in turn; each state has
// a new Envoy on the other side, because the SnapshotCache does not send the
// endpoints of a changed cluster again, which leaves it warming.
func TestEnvoyRunsTheSameFromOurServerAsFromTheStockOne(t *testing.T) {
	envoy := findEnvoy(t)
	r := rand.New(rand.NewPCG(1, 2))
	scenes := []string{"empty", "figure2-sg-1", "policy", "tcp", "ecmp", "function", "parallel-links", "figure2-sr-1", "alias", "figure2-sg-1"}
	scenes = append(scenes, "many", "many", "many, health", "many, listener", "many", "many, refused", "many") // each "many" has its routes elsewhere

	ours := newSide(t, envoy, "ours")
	srv := xds.New(xds.Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	ours.serve(t, srv.Register)
	text, last := "", ""
	for i, name := range scenes {
		name, change, _ := strings.Cut(name, ", ")
		if change == "" || text == "" {
			text = sceneText(t, r, name)
		}
		if change == "listener" {
			text = strings.Replace(text, "15900", "15904", 1)
		}
		setOf := func(s *side) xds.Set {
			set := xds.SetOf(translate(t, parseScene(t, s.at(text))))
			if change == "health" {
				for _, e := range set.Endpoints {
					if e.GetClusterName() == "dmsc/group/sr-2+sr-3" {
						e.Endpoints = nil
					}
				}
			}
			return set
		}
		set := setOf(ours)
		if change == "refused" { // and healed by the set that follows
			rotten := &clusterv3.Cluster{Name: "rotten", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}}
			bad := set
			bad.Clusters = append(slices.Clone(set.Clusters), rotten)
			bad.Endpoints = append(slices.Clone(set.Endpoints), &endpointv3.ClusterLoadAssignment{ClusterName: "rotten"})
			if _, err := srv.Publish("n", bad); err != nil {
				t.Fatal(err)
			}
			ours.until(t, "a bad cluster is not refused", func() (bool, string) {
				st, _ := srv.Status("n")
				return st.Phase == xds.PhaseRejected, fmt.Sprintf("%+v", st)
			})
		}
		version, err := srv.Publish("n", set)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			ours.start(t)
		}
		ours.until(t, name+" is not acknowledged", func() (bool, string) {
			st, _ := srv.Status("n")
			return st.Converged && st.Acked == version, fmt.Sprintf("%+v", st)
		})

		stock := newSide(t, envoy, "stock")
		cache := cachev3.NewSnapshotCache(false, cachev3.IDHash{}, nil)
		snapshot, err := cachev3.NewSnapshot("1", resourcesOf(setOf(stock)))
		if err != nil {
			t.Fatal(err)
		}
		if err := cache.SetSnapshot(t.Context(), "n", snapshot); err != nil {
			t.Fatal(err)
		}
		stop := stock.serve(t, func(g *grpc.Server) {
			discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, serverv3.NewServer(t.Context(), cache, nil))
		})
		end := stock.start(t)
		var diff string
		resources := 0
		ours.until(t, name+" differs", func() (bool, string) {
			a, b := stock.dump(t), ours.dump(t)
			resources = strings.Count(a, `"name":`)
			diff = cmp.Diff(strings.Split(a, "\n"), strings.Split(b, "\n"))
			return diff == "" && !strings.Contains(a, "warming"), "(-stock +ours)\n" + diff
		})
		t.Logf("%s (%s): equal, %d names", name, change, resources)
		now := ours.dump(t)
		if now == last && change != "refused" {
			t.Errorf("%s %s: nothing has changed: this test is blind", name, change)
		}
		last = now
		if resources < 10 {
			t.Errorf("%s: the dump has only %d names: this test is blind", name, resources)
		}
		end()
		stop()
	}
}

// sceneText is a scene of testdata, or one with many prefixes.
func sceneText(t *testing.T, r *rand.Rand, name string) string {
	t.Helper()
	if name != "many" {
		text, err := os.ReadFile("testdata/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var b strings.Builder
	b.WriteString("node: sg-1\naddrs: {ingress: \"127.0.0.1:15900\", fabric: \"127.0.0.1:15901\", probe: \"127.0.0.1:15903\"}\n")
	b.WriteString("neighbours:\n- {link: sr-1, data: \"127.0.0.1:15941\"}\n- {link: sr-2, data: \"127.0.0.1:15951\"}\n- {link: sr-3, data: \"127.0.0.1:15961\"}\nentries:\n")
	for i := range 1000 {
		via := []string{"[sr-1]", "[sr-2], backup: sr-1", "[sr-1, sr-2]", "[sr-2, sr-3]"}[r.IntN(4)]
		fmt.Fprintf(&b, "- {prefix: many/%d, via: %s, safe: %t}\n", i, via, r.IntN(2) == 0)
	}
	return b.String()
}

func resourcesOf(set xds.Set) map[resourcev3.Type][]typesv3.Resource {
	return map[resourcev3.Type][]typesv3.Resource{
		resourcev3.ClusterType:  stock(set.Clusters),
		resourcev3.EndpointType: stock(set.Endpoints),
		resourcev3.RouteType:    stock(set.Routes),
		resourcev3.ListenerType: stock(set.Listeners),
	}
}

func stock[M proto.Message](messages []M) (out []typesv3.Resource) {
	for _, m := range messages {
		out = append(out, m)
	}
	return out
}

// side is one xDS server and its Envoy, on a loopback address of their own.
type side struct {
	envoy, dir, ip string
	admin          lab.Admin // of the Envoy that was started last
}

func newSide(t *testing.T, envoy, name string) *side {
	t.Helper()
	dir, err := os.MkdirTemp("", "d"+name[:1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &side{envoy: envoy, dir: dir, ip: fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))}
}

// at moves a scene to the side's address.
func (s *side) at(text string) string { return strings.ReplaceAll(text, "127.0.0.1", s.ip) }

func (s *side) serve(t *testing.T, register func(*grpc.Server)) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(s.dir, "xds.sock"))
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	register(g)
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(l) }()
	stop = func() { g.Stop(); <-done }
	t.Cleanup(stop)
	return stop
}

func (s *side) start(t *testing.T) (end func()) {
	t.Helper()
	boot, err := translator.Bootstrap(dmsc.NodeID("n"), "unix://"+filepath.Join(s.dir, "admin.sock"), "unix://"+filepath.Join(s.dir, "xds.sock"))
	if err != nil {
		t.Fatal(err)
	}
	e := labtest.StartEnvoy(t, lab.EnvoyConfig{
		Name: "envoy", Binary: s.envoy, Bootstrap: writeYAML(t, boot), Admin: filepath.Join(s.dir, "admin.sock"),
		Drain: time.Second, // what is being drained is in the dump
	})
	s.admin = e.Admin
	return func() { _ = e.Kill(); <-e.Done() }
}

func (s *side) until(t *testing.T, what string, is func() (bool, string)) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		ok, why := is()
		if ok {
			return
		}
		select {
		case <-late:
			t.Fatalf("%s: %s", what, why)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// dump is what the Envoy runs, without what tells when and from whom it came.
func (s *side) dump(t *testing.T) string {
	t.Helper()
	body, err := s.admin.ConfigDump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var dump struct{ Configs []map[string]any }
	if err := json.Unmarshal(body, &dump); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range dump.Configs {
		kind := fmt.Sprint(c["@type"])
		if strings.HasSuffix(kind, "BootstrapConfigDump") || strings.HasSuffix(kind, "SecretsConfigDump") {
			continue
		}
		for section, value := range c {
			list, ok := value.([]any)
			if !ok {
				continue
			}
			for _, item := range list {
				text, err := json.Marshal(plain(item))
				if err != nil {
					t.Fatal(err)
				}
				line := section + " " + strings.ReplaceAll(string(text), s.ip, "IP")
				lines = append(lines, strings.ReplaceAll(line, s.dir, "DIR"))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// plain takes versions and times out of a dump.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range []string{"version_info", "last_updated", "client_status"} {
			delete(v, k)
		}
		for k := range v {
			v[k] = plain(v[k])
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	}
	return v
}
