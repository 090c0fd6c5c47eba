package xds_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc/xds"
)

const types = xds.Listeners + 1

// name is one resource.
type name struct {
	typ  xds.Type
	name string
}

func (n name) String() string { return fmt.Sprintf("%s/%s", n.typ, n.name) }

// content is the bytes of one resource.
type content string

// gone is the content of what is not there.
const gone content = ""

// world is what is published, and all that ever was.
type world struct {
	clusters  map[string]*clusterv3.Cluster
	endpoints map[string]*endpointv3.ClusterLoadAssignment
	routes    map[string]*routev3.RouteConfiguration
	listeners map[string]*listenerv3.Listener

	want map[name]content
	// uses has every content ever published, and what it needs.
	uses map[content][]name
	bad  map[content]bool // what an Envoy refuses
	revs int
}

// Some of the names are parts of others.
var (
	clusterNames  = []string{"c", "c/1", "c/2", "c-1", "d", "e"}
	routeNames    = []string{"r", "r/1", "r/2"}
	listenerNames = []string{"l", "l/1", "l/2"}
)

func newWorld(r *rand.Rand) *world {
	w := &world{
		clusters: map[string]*clusterv3.Cluster{}, endpoints: map[string]*endpointv3.ClusterLoadAssignment{},
		routes: map[string]*routev3.RouteConfiguration{}, listeners: map[string]*listenerv3.Listener{},
		uses: map[content][]name{}, bad: map[content]bool{},
	}
	w.addCluster(r)
	w.addCluster(r)
	w.addRoute(r)
	w.addListener(r)
	w.settle()
	return w
}

// rev is mostly one that was there before, so that things change and change
// back. The ninth is bad.
func (w *world) rev(r *rand.Rand) int { return r.IntN(9) }

func free[V any](r *rand.Rand, all []string, taken map[string]V) (string, bool) {
	left := slices.DeleteFunc(slices.Clone(all), func(n string) bool { _, ok := taken[n]; return ok })
	return pick(r, left)
}

func some[V any](r *rand.Rand, m map[string]V) string {
	n, _ := pick(r, slices.Sorted(maps.Keys(m)))
	return n
}

func pick(r *rand.Rand, all []string) (string, bool) {
	if len(all) == 0 {
		return "", false
	}
	return all[r.IntN(len(all))], true
}

func (w *world) addCluster(r *rand.Rand) string {
	n, ok := free(r, clusterNames, w.clusters)
	if !ok {
		return "no room"
	}
	w.clusters[n] = cluster(n, w.rev(r))
	if r.IntN(5) == 0 {
		w.clusters[n].EdsClusterConfig.ServiceName = "shared"
	}
	return "add cluster " + n
}

func (w *world) addRoute(r *rand.Rand) string {
	n, ok := free(r, routeNames, w.routes)
	if !ok {
		return "no room"
	}
	w.routes[n] = w.table(r, n)
	return "add routes " + n
}

func (w *world) table(r *rand.Rand, n string) *routev3.RouteConfiguration {
	rc := route(n, some(r, w.clusters))
	if r.IntN(2) == 0 { // a second way
		second := proto.CloneOf(rc.VirtualHosts[0].Routes[0])
		second.GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: some(r, w.clusters)}
		rc.VirtualHosts[0].Routes = append(rc.VirtualHosts[0].Routes, second)
	}
	return rc
}

func (w *world) addListener(r *rand.Rand) string {
	n, ok := free(r, listenerNames, w.listeners)
	if !ok {
		return "no room"
	}
	w.listeners[n] = listener(n, some(r, w.routes), 15000+w.rev(r))
	return "add listener " + n
}

// mutate changes one thing, and says which.
func (w *world) mutate(r *rand.Rand, bad bool) string {
	switch r.IntN(14) {
	case 0, 1:
		return w.addCluster(r)
	case 2:
		return w.addRoute(r)
	case 3:
		return w.addListener(r)
	case 4, 5:
		n := some(r, w.clusters)
		rev := w.rev(r)
		if bad && r.IntN(4) == 0 {
			rev = 9
		}
		w.clusters[n] = cluster(n, rev)
		return fmt.Sprintf("change cluster %s to %d", n, rev)
	case 6:
		n := some(r, w.routes)
		w.routes[n] = w.table(r, n)
		return "move routes " + n
	case 7, 8:
		n := some(r, w.clusters)
		if len(w.clusters) > 1 {
			delete(w.clusters, n)
		}
		return "remove cluster " + n
	case 9:
		n := some(r, w.routes)
		if len(w.routes) > 1 {
			delete(w.routes, n)
		}
		return "remove routes " + n
	case 10:
		n := some(r, w.listeners)
		if len(w.listeners) > 1 {
			delete(w.listeners, n)
		}
		return "remove listener " + n
	case 11:
		n, to := some(r, w.clusters), ""
		to, ok := free(r, clusterNames, w.clusters)
		if !ok {
			return "no room"
		}
		w.clusters[to] = proto.CloneOf(w.clusters[n])
		w.clusters[to].Name = to
		delete(w.clusters, n)
		return fmt.Sprintf("rename cluster %s to %s", n, to)
	default:
		n := some(r, w.endpoints)
		w.endpoints[n] = endpoints(n, 8080+w.rev(r))
		return "health of " + n
	}
}

// heal makes what was refused good again.
func (w *world) heal(refused []name) {
	for _, n := range refused {
		w.revs++
		switch n.typ {
		case xds.Clusters:
			w.clusters[n.name] = cluster(n.name, 100+w.revs)
		case xds.Endpoints:
			if c := w.clusters[n.name]; c == nil && n.name != "shared" && slices.Contains(clusterNames, n.name) {
				w.clusters[n.name] = cluster(n.name, 100+w.revs)
			}
			w.endpoints[n.name] = endpoints(n.name, 9000+w.revs)
		case xds.Routes:
			rc := w.routes[n.name]
			if rc == nil {
				rc = route(n.name, slices.Sorted(maps.Keys(w.clusters))[0])
			}
			rc = proto.CloneOf(rc)
			rc.VirtualHosts[0].Name = fmt.Sprint("healed ", w.revs)
			w.routes[n.name] = rc
		case xds.Listeners:
			w.listeners[n.name] = listener(n.name, slices.Sorted(maps.Keys(w.routes))[0], 16000+w.revs)
		}
	}
	for _, c := range w.clusters { // what the ninth revision may have left
		if badCluster(c) {
			w.revs++
			w.clusters[c.GetName()] = cluster(c.GetName(), 100+w.revs)
		}
	}
	w.settle()
}

func badCluster(c *clusterv3.Cluster) bool { return c.GetConnectTimeout().GetNanos() == 9e6 }

// settle closes the world under reference, and takes down what it wants.
func (w *world) settle() {
	services := map[string]bool{}
	for n, c := range w.clusters {
		service := serviceOf(c)
		services[service] = true
		if w.endpoints[service] == nil {
			w.endpoints[service] = endpoints(service, 8080)
		}
		_ = n
	}
	maps.DeleteFunc(w.endpoints, func(n string, _ *endpointv3.ClusterLoadAssignment) bool {
		return !services[n]
	})
	left := slices.Sorted(maps.Keys(w.clusters))[0]
	for n, rc := range w.routes {
		changed := proto.CloneOf(rc)
		for _, route := range changed.VirtualHosts[0].Routes {
			if w.clusters[route.GetRoute().GetCluster()] == nil {
				route.GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: left}
			}
		}
		w.routes[n] = changed
	}
	tables := slices.Sorted(maps.Keys(w.routes))
	for n, l := range w.listeners {
		if w.routes[routesOf(l)] == nil {
			w.listeners[n] = listener(n, tables[0], int(l.GetAddress().GetSocketAddress().GetPortValue()))
		}
	}
	w.want = map[name]content{}
	for _, c := range w.clusters {
		w.note(name{xds.Clusters, c.GetName()}, c, name{xds.Endpoints, serviceOf(c)})
		w.bad[w.want[name{xds.Clusters, c.GetName()}]] = badCluster(c)
	}
	for _, e := range w.endpoints {
		w.note(name{xds.Endpoints, e.GetClusterName()}, e)
	}
	for _, rc := range w.routes {
		var uses []name
		for _, route := range rc.VirtualHosts[0].Routes {
			uses = append(uses, name{xds.Clusters, route.GetRoute().GetCluster()})
		}
		w.note(name{xds.Routes, rc.GetName()}, rc, uses...)
	}
	for _, l := range w.listeners {
		w.note(name{xds.Listeners, l.GetName()}, l, name{xds.Routes, routesOf(l)})
	}
}

func (w *world) note(n name, m proto.Message, uses ...name) {
	c := contentOf(m)
	w.want[n] = c
	w.uses[c] = uses
}

func contentOf(m proto.Message) content {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return content(b)
}

func serviceOf(c *clusterv3.Cluster) string {
	if s := c.GetEdsClusterConfig().GetServiceName(); s != "" {
		return s
	}
	return c.GetName()
}

// set is the world as it is published. Messages are never changed afterwards.
func (w *world) set() xds.Set {
	return xds.Set{
		Clusters: sorted(w.clusters), Endpoints: sorted(w.endpoints),
		Routes: sorted(w.routes), Listeners: sorted(w.listeners),
	}
}

func sorted[M any](m map[string]M) []M {
	var out []M
	for _, n := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[n])
	}
	return out
}

// String lists the names that are wanted.
func (w *world) String() string {
	var words []string
	for _, n := range slices.SortedFunc(maps.Keys(w.want), byName) {
		line := n.String()
		for _, used := range w.uses[w.want[n]] {
			line += ">" + used.name
		}
		words = append(words, line)
	}
	return strings.Join(words, " ")
}

func byName(a, b name) int { return strings.Compare(a.String(), b.String()) }

// routesOf is the table a listener asks for.
func routesOf(l *listenerv3.Listener) string {
	hcm := &hcmv3.HttpConnectionManager{}
	if err := l.FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(hcm); err != nil {
		panic(err)
	}
	return hcm.GetRds().GetRouteConfigName()
}
