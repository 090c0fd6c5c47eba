package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/serve"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// Stage is an xDS server in a process of its own, so that its memory and CPU
// time are the server's alone. It serves ADS at <Dir>/xds.sock and takes orders
// at <Dir>/orders.sock.
type Stage struct {
	Server   string `json:"server"` // ours, or a cache of go-control-plane
	Dir      string `json:"dir"`
	Streams  int    `json:"streams"`
	Clusters int    `json:"clusters"` // as many plain clusters, or
	Prefixes int    `json:"prefixes"` // the FIB of a node that knows as many
}

const (
	// stageNode is the node.id of all clients of a stage.
	stageNode = "node-000"
	// settling is how long nothing comes or goes when a stage is at rest.
	settling = 100 * time.Millisecond
	// badCluster is the one that clients refuse.
	badCluster = "bad"
)

// The changes that a stage can be told to make. Each, made again, is undone.
const (
	changeCluster = "cluster"  // one plain cluster has another content
	changeBad     = "bad"      // a cluster comes that a client refuses
	changeNextHop = "next-hop" // a next hop is dead: endpoints
	changePrefix  = "prefix"   // one prefix goes another way: the route tables
)

// changed is the answer to an order.
type changed struct {
	Millis    []float64 `json:"millis"`    // from the order to each stream's ACK, in their order
	CPU       float64   `json:"cpu"`       // ms
	Allocated float64   `json:"allocated"` // bytes
}

// stageUsage is what a stage uses, in bytes.
type stageUsage struct {
	Heap float64 `json:"heap"` // live
	RSS  float64 `json:"rss"`
}

// stageActivity is what has come.
type stageActivity struct {
	Requests int64 `json:"requests"`
	LastNano int64 `json:"last_nano"` // when a message was last sent or received
}

// ServeStage runs a stage, given as JSON, until ctx ends.
func ServeStage(ctx context.Context, text string) error {
	var s Stage
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return fmt.Errorf("read the stage: %w", err)
	}
	return s.run(ctx)
}

func (s Stage) run(ctx context.Context) error {
	r, err := newRival(ctx, s.Server)
	if err != nil {
		return err
	}
	g := &stage{Stage: s, rival: r, made: map[string]bool{}}
	if g.variant, err = s.variants(); err != nil {
		return err
	}
	if err := g.publish(); err != nil {
		return err
	}
	orders := http.NewServeMux()
	orders.HandleFunc("POST /change/{what}", g.change)
	orders.HandleFunc("GET /usage", g.usage)
	orders.HandleFunc("GET /activity", g.activity)
	at, err := serve.Listen("unix://" + filepath.Join(s.Dir, "orders.sock"))
	if err != nil {
		return err
	}
	l, err := serve.Listen("unix://" + filepath.Join(s.Dir, "xds.sock"))
	if err != nil {
		return errors.Join(err, at.Close())
	}
	server := grpc.NewServer(append(serverOptions(s.Server), grpc.StreamInterceptor(g.wire.count))...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, r)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve.GRPC(ctx, "xds", server, l) })
	group.Go(func() error {
		h := &http.Server{Handler: orders, ReadHeaderTimeout: time.Second}
		stop := context.AfterFunc(ctx, func() { _ = h.Close() })
		defer stop()
		if err := h.Serve(at); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return group.Wait()
}

// serverOptions are the gRPC options a server is meant to run with.
func serverOptions(server string) []grpc.ServerOption {
	if server == ours {
		return xds.ServerOptions()
	}
	return nil
}

// variants returns what makes the set that the changes made lead to.
func (s Stage) variants() (func(made map[string]bool) (xds.Set, error), error) {
	if s.Clusters > 0 {
		clusters := newPlainClusters(s.Clusters)
		return func(made map[string]bool) (xds.Set, error) {
			rev := 0
			if made[changeCluster] {
				rev = 1
			}
			set := clusters.revision(rev)
			if made[changeBad] {
				set.Clusters = append(set.Clusters, plainCluster(badCluster, 0))
			}
			return set, nil
		}, nil
	}
	last := 10 // an address for each neighbour; nobody is there
	unused := func(dmsc.NodeID) string { last++; return fmt.Sprintf("127.0.0.1:%d", last) }
	f, err := newForwarding(s.Prefixes, translator.Addrs{Ingress: "127.0.0.1:2", Fabric: "127.0.0.1:3", Probe: "127.0.0.1:4"}, unused)
	if err != nil {
		return nil, err
	}
	var t translator.Translator
	return func(made map[string]bool) (xds.Set, error) {
		return translated(&t, f.with(made[changeNextHop], made[changePrefix]))
	}, nil
}

// stage is a running Stage.
type stage struct {
	Stage
	rival   rival
	variant func(made map[string]bool) (xds.Set, error)
	made    map[string]bool // the changes that were made an odd number of times
	wire    wire
}

func (s *stage) publish() error {
	set, err := s.variant(s.made)
	if err != nil {
		return err
	}
	return s.rival.publish(stageNode, set)
}

// change makes a change, waits until every stream has ACKed it and nothing
// moves any more, and tells how long that took.
func (s *stage) change(w http.ResponseWriter, r *http.Request) {
	what := r.PathValue("what")
	url := map[string]xds.Type{changeNextHop: xds.Endpoints, changePrefix: xds.Routes}[what].URL() // else clusters
	acks := s.wire.watch(url, s.Streams)
	s.made[what] = !s.made[what]
	allocated, cpu, t0 := allocations(), ownCPU(), time.Now()
	err := s.publish()
	if err == nil {
		err = acks.wait(r.Context())
	}
	answer := changed{CPU: milliseconds(ownCPU() - cpu), Allocated: float64(allocations() - allocated), Millis: acks.since(t0)}
	// A client that refuses for ever is never at rest.
	for end := time.Now().Add(10 * settling); time.Now().Before(end) && time.Since(time.Unix(0, s.wire.last.Load())) < settling; {
		time.Sleep(settling / 10)
	}
	reply(w, answer, err)
}

// usage tells what the process uses, without what it could give back.
func (s *stage) usage(w http.ResponseWriter, _ *http.Request) {
	runtime.GC()
	debug.FreeOSMemory()
	rss, _ := memory(os.Getpid())
	reply(w, stageUsage{Heap: float64(heap()), RSS: rss * 1e6}, nil)
}

// activity tells what has come and when the last message was.
func (s *stage) activity(w http.ResponseWriter, _ *http.Request) {
	reply(w, stageActivity{Requests: s.wire.requests.Load(), LastNano: s.wire.last.Load()}, nil)
}

func reply(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(v)
}
