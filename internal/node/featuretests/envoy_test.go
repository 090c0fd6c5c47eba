package featuretests

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc/xds"
)

// envoy stands in for an Envoy: a delta ADS client that comes back with what it
// holds, and listeners that answer out of that: hello on fabric, and on probe
// what the far end of a link says.
type envoy struct {
	t             *testing.T
	id, socket    string
	fabric, probe net.Listener // held while it is dead: then they hang up
	client        *http.Client

	mu    sync.Mutex
	alive bool
	stop  func()
	held  map[xds.Type]map[string]*discoveryv3.Resource
	asked map[xds.Type]map[string]bool // subscribed by name: endpoints and routes
	heard []string                     // every response since start, "routes +a -b"
	// refuse is the resource whose presence has a response refused.
	refuse string
	// refuseHost is the virtual host whose presence has a route table refused.
	refuseHost string
	// silent keeps back the answer to responses of a type until it is nil again.
	silent map[xds.Type]chan struct{}
	slow   map[string]time.Duration // per probe path, there and back
	cut    map[string]bool          // per probe path
}

func newEnvoy(t *testing.T, id, socket, probe string) *envoy {
	t.Helper()
	e := &envoy{t: t, id: id, socket: socket, silent: map[xds.Type]chan struct{}{}, slow: map[string]time.Duration{}, cut: map[string]bool{}, stop: func() {}}
	e.client = &http.Client{Transport: &http.Transport{}}
	var err1, err2 error
	e.fabric, err1 = net.Listen("tcp", "127.0.0.1:0")
	e.probe, err2 = net.Listen("unix", probe)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for l, h := range map[net.Listener]http.HandlerFunc{e.fabric: e.hello, e.probe: e.pass} {
		s := &http.Server{Handler: h}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.Serve(l) // ends with Close
		}()
		t.Cleanup(func() {
			s.Close()
			<-done
			e.client.CloseIdleConnections()
		})
	}
	t.Cleanup(e.kill)
	return e
}

// start begins an Envoy that holds nothing.
func (e *envoy) start() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.alive = true
	e.heard, e.held, e.asked = nil, map[xds.Type]map[string]*discoveryv3.Resource{}, map[xds.Type]map[string]bool{}
	for t := xds.Clusters; t <= xds.Listeners; t++ {
		e.held[t], e.asked[t] = map[string]*discoveryv3.Resource{}, map[string]bool{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	e.stop = func() {
		cancel()
		<-done
	}
	go func() {
		defer close(done)
		e.follow(ctx)
	}()
}

// kill ends it with everything it held.
func (e *envoy) kill() {
	e.mu.Lock()
	stop := e.stop
	e.alive, e.stop = false, func() {}
	e.mu.Unlock()
	stop()
}

// set changes how it behaves.
func (e *envoy) set(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
}

// follow keeps a stream to the agent, as Envoy does: it comes back at once with
// the versions of what it holds.
func (e *envoy) follow(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := grpc.NewClient("unix://"+e.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			e.t.Error(err)
			return
		}
		_ = e.stream(ctx, conn) // the agent has ended, or we have
		conn.Close()
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (e *envoy) stream(ctx context.Context, conn *grpc.ClientConn) error {
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	for _, t := range []xds.Type{xds.Clusters, xds.Endpoints, xds.Listeners, xds.Routes} {
		e.mu.Lock()
		r := &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: e.id}, TypeUrl: t.URL(), InitialResourceVersions: map[string]string{}}
		for name, held := range e.held[t] {
			r.InitialResourceVersions[name] = held.GetVersion()
		}
		r.ResourceNamesSubscribe = slices.Sorted(maps.Keys(e.asked[t])) // none for a wildcard
		e.mu.Unlock()
		if (t == xds.Clusters || t == xds.Listeners) || len(r.GetResourceNamesSubscribe()) > 0 {
			if err := s.Send(r); err != nil {
				return err
			}
		}
	}
	for {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		answers, err := e.take(ctx, r)
		if err != nil {
			return err
		}
		for _, a := range answers {
			if err := s.Send(a); err != nil {
				return err
			}
		}
	}
}

// take accepts or refuses a response, and asks for what it names.
func (e *envoy) take(ctx context.Context, r *discoveryv3.DeltaDiscoveryResponse) ([]*discoveryv3.DeltaDiscoveryRequest, error) {
	var typ xds.Type
	for t := xds.Clusters; t <= xds.Listeners; t++ {
		if t.URL() == r.GetTypeUrl() {
			typ = t
		}
	}
	words := []string{typ.String()}
	for _, res := range r.GetResources() {
		words = append(words, "+"+res.GetName())
	}
	for _, name := range r.GetRemovedResources() {
		words = append(words, "-"+name)
	}
	e.mu.Lock()
	e.heard = append(e.heard, strings.Join(words, " "))
	wait := e.silent[typ]
	e.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}

	e.mu.Lock()
	defer e.mu.Unlock()
	answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
	if slices.ContainsFunc(r.GetResources(), func(res *discoveryv3.Resource) bool { return res.GetName() == e.refuse }) {
		answer.ErrorDetail = &status.Status{Code: 13, Message: e.refuse + ": the words of Envoy"}
		return []*discoveryv3.DeltaDiscoveryRequest{answer}, nil
	}
	for _, res := range r.GetResources() {
		if typ != xds.Routes || e.refuseHost == "" {
			continue
		}
		for _, v := range decode(e.t, res, &routev3.RouteConfiguration{}).GetVirtualHosts() {
			if v.GetName() == e.refuseHost {
				answer.ErrorDetail = &status.Status{Code: 13, Message: "virtual host " + e.refuseHost + ": the words of Envoy"}
				return []*discoveryv3.DeltaDiscoveryRequest{answer}, nil
			}
		}
	}
	var asks, drops []string
	asked := xds.Endpoints
	for _, res := range r.GetResources() {
		e.held[typ][res.GetName()] = res
		switch typ {
		case xds.Clusters:
			if decode(e.t, res, &clusterv3.Cluster{}).GetType() == clusterv3.Cluster_EDS {
				asks = append(asks, res.GetName())
			}
		case xds.Listeners:
			asked = xds.Routes
			for _, f := range decode(e.t, res, &listenerv3.Listener{}).GetFilterChains()[0].GetFilters() {
				hcm := &hcmv3.HttpConnectionManager{}
				if f.GetTypedConfig().UnmarshalTo(hcm) == nil && hcm.GetRds() != nil {
					asks = append(asks, hcm.GetRds().GetRouteConfigName())
				}
			}
		}
	}
	for _, name := range r.GetRemovedResources() {
		delete(e.held[typ], name)
		if typ == xds.Clusters {
			drops = append(drops, name)
			delete(e.held[xds.Endpoints], name)
			delete(e.asked[xds.Endpoints], name)
		}
	}
	for _, name := range asks {
		e.asked[asked][name] = true
	}
	out := []*discoveryv3.DeltaDiscoveryRequest{answer}
	if len(asks)+len(drops) > 0 {
		out = append(out, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: asked.URL(), ResourceNamesSubscribe: asks, ResourceNamesUnsubscribe: drops})
	}
	return out, nil
}

func decode[M proto.Message](t *testing.T, res *discoveryv3.Resource, m M) M {
	if err := res.GetResource().UnmarshalTo(m); err != nil {
		t.Errorf("%s: %v", res.GetName(), err)
	}
	return m
}

// routes is a route table that it runs, nil for none.
func (e *envoy) routes(name string) *routev3.RouteConfiguration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if res := e.held[xds.Routes][name]; res != nil && e.alive {
		return decode(e.t, res, &routev3.RouteConfiguration{})
	}
	return nil
}

// hosts are the names of the virtual hosts of a table that it runs.
func (e *envoy) hosts(table string) (names []string) {
	for _, v := range e.routes(table).GetVirtualHosts() {
		names = append(names, v.GetName())
	}
	return names
}

// names are the resources of a type that it runs, sorted.
func (e *envoy) names(typ xds.Type) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.held[typ]))
}

// messages is everything it was sent since it started.
func (e *envoy) messages() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard)
}

// hello answers the fabric's hello as the table says. Without a table there is
// no listener.
func (e *envoy) hello(w http.ResponseWriter, r *http.Request) {
	table := e.routes("dmsc/fabric")
	if table == nil {
		panic(http.ErrAbortHandler)
	}
	key := r.Header.Get("dmsc-service-prefix") + "/."
	for _, v := range table.GetVirtualHosts() {
		if !slices.Contains(v.GetDomains(), key) || v.GetRoutes()[0].GetDirectResponse() == nil {
			continue
		}
		for _, h := range v.GetRoutes()[0].GetResponseHeadersToAdd() {
			w.Header().Set(h.GetHeader().GetKey(), h.GetHeader().GetValue())
		}
		w.WriteHeader(int(v.GetRoutes()[0].GetDirectResponse().GetStatus()))
		return
	}
	w.WriteHeader(http.StatusNotFound)
}

// pass lets a probe through to the far end of its link.
func (e *envoy) pass(w http.ResponseWriter, r *http.Request) {
	table := e.routes("dmsc/probe")
	if table == nil {
		panic(http.ErrAbortHandler)
	}
	for _, route := range table.GetVirtualHosts()[0].GetRoutes() {
		if route.GetMatch().GetPath() != r.URL.Path {
			continue
		}
		address, wait := e.endpoint(route.GetRoute().GetCluster(), r.URL.Path)
		if address == "" {
			break
		}
		select {
		case <-time.After(wait): // the link is slow
		case <-r.Context().Done():
			return
		}
		out, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			break
		}
		out.Header.Set("dmsc-service-prefix", "dmsc/hello")
		resp, err := e.client.Do(out)
		if err != nil {
			break
		}
		defer resp.Body.Close()
		maps.Copy(w.Header(), resp.Header)
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
}

// endpoint is the first address of a cluster, whatever its health: as in Envoy
// with a panic threshold of 0 and one host, of which the agent wants to know.
func (e *envoy) endpoint(cluster, path string) (address string, wait time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	res := e.held[xds.Endpoints][cluster]
	if res == nil || e.cut[path] {
		return "", 0
	}
	for _, l := range decode(e.t, res, &endpointv3.ClusterLoadAssignment{}).GetEndpoints() {
		for _, ep := range l.GetLbEndpoints() {
			a := ep.GetEndpoint().GetAddress().GetSocketAddress()
			return net.JoinHostPort(a.GetAddress(), fmt.Sprint(a.GetPortValue())), e.slow[path]
		}
	}
	return "", 0
}
