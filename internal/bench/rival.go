package bench

import (
	"context"
	"fmt"
	"strconv"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc/xds"
)

// The servers that are compared.
const (
	ours          = "dmsc"
	stockSnapshot = "SnapshotCache"
	stockLinear   = "LinearCache"
)

// rival is a control plane with a Set for each node: ours, or a cache of
// go-control-plane behind its own stream server.
type rival interface {
	discoveryv3.AggregatedDiscoveryServiceServer
	publish(node string, set xds.Set) error
}

func newRival(ctx context.Context, kind string) (rival, error) {
	switch kind {
	case ours:
		return &dmscServer{xds.New(xds.Config{MaxStreamsPerNode: 10_000, MaxStrangers: 10_000})}, nil
	case stockSnapshot:
		cache := cachev3.NewSnapshotCache(false, cachev3.IDHash{}, nil)
		return &snapshotServer{Server: serverv3.NewServer(ctx, cache, nil), cache: cache}, nil
	case stockLinear:
		return newLinearServer(ctx), nil
	}
	return nil, fmt.Errorf("there is no server %q", kind)
}

type dmscServer struct{ *xds.Server }

func (s *dmscServer) publish(node string, set xds.Set) error {
	_, err := s.Publish(node, set)
	return err
}

// snapshotServer is go-control-plane's SnapshotCache as its documentation says
// to use it: a new snapshot under a new version for every change.
type snapshotServer struct {
	serverv3.Server
	cache   cachev3.SnapshotCache
	version int
}

func (s *snapshotServer) publish(node string, set xds.Set) error {
	s.version++
	resources := map[string][]types.Resource{}
	for url, messages := range byType(set) {
		for _, m := range messages {
			resources[url] = append(resources[url], m)
		}
	}
	snapshot, err := cachev3.NewSnapshot(strconv.Itoa(s.version), resources)
	if err != nil {
		return err
	}
	return s.cache.SetSnapshot(context.Background(), node, snapshot)
}

// linearServer has a LinearCache for each type. All its clients are given the
// same, and it is told what has changed: it has no diff of its own.
type linearServer struct {
	serverv3.Server
	caches map[string]*cachev3.LinearCache
	has    map[string]map[string]proto.Message
}

func newLinearServer(ctx context.Context) *linearServer {
	s := &linearServer{caches: map[string]*cachev3.LinearCache{}, has: map[string]map[string]proto.Message{}}
	mux := &cachev3.MuxCache{
		Classify:      func(r *cachev3.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cachev3.DeltaRequest) string { return r.GetTypeUrl() },
		Caches:        map[string]cachev3.Cache{},
	}
	for url := range byType(xds.Set{}) {
		s.caches[url] = cachev3.NewLinearCache(url)
		s.has[url] = map[string]proto.Message{}
		mux.Caches[url] = s.caches[url]
	}
	s.Server = serverv3.NewServer(ctx, mux, nil)
	return s
}

// publish hands over what is another message than before, type by type in the
// order in which Envoy wants it.
func (s *linearServer) publish(_ string, set xds.Set) error {
	all := byType(set)
	for _, t := range askingOrder {
		url := t.URL()
		changed, gone := map[string]types.Resource{}, []string{}
		now := map[string]proto.Message{}
		for _, m := range all[url] {
			name := cachev3.GetResourceName(m)
			now[name] = m
			if s.has[url][name] != m {
				changed[name] = m
			}
		}
		for name := range s.has[url] {
			if now[name] == nil {
				gone = append(gone, name)
			}
		}
		s.has[url] = now
		if len(changed)+len(gone) == 0 {
			continue
		}
		if err := s.caches[url].UpdateResources(changed, gone); err != nil {
			return err
		}
	}
	return nil
}

// askingOrder is the order in which an Envoy asks for the types.
var askingOrder = [...]xds.Type{xds.Clusters, xds.Endpoints, xds.Listeners, xds.Routes}

func byType(set xds.Set) map[string][]proto.Message {
	return map[string][]proto.Message{
		xds.Clusters.URL():  messages(set.Clusters),
		xds.Endpoints.URL(): messages(set.Endpoints),
		xds.Listeners.URL(): messages(set.Listeners),
		xds.Routes.URL():    messages(set.Routes),
	}
}

func messages[M proto.Message](in []M) []proto.Message {
	out := make([]proto.Message, len(in))
	for i, m := range in {
		out[i] = m
	}
	return out
}
