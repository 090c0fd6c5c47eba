package translator

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
)

// Resources are the complete configuration of one Envoy, each map keyed by the
// name of the resource. Listeners take their routes by RDS and clusters their
// endpoints by EDS, both over ADS; only external hosts are found by DNS. Resources are not changed after Translate.
type Resources struct {
	Listeners map[string]*listenerv3.Listener
	Routes    map[string]*routev3.RouteConfiguration
	Clusters  map[string]*clusterv3.Cluster
	// Endpoints has one assignment per EDS cluster, under the name of the cluster.
	Endpoints map[string]*endpointv3.ClusterLoadAssignment
	// Generation is what dmsc/hello answers: a hash of the routes, 16 hexadecimal
	// digits. Nothing else is in it, so that a change of health, or a cluster that
	// goes when its retirement is over, resends no route table.
	Generation string
}

// Translate turns the state of a node into its Envoy resources. Equal states
// give equal resources. An error joins every fault of the state; it is the
// caller's mistake (an address with a host name, a group over a link that is
// not among the neighbours, a malformed steering), never a lack of routes.
func Translate(s State) (Resources, error) { return new(Translator).Translate(s) }

// Translator translates the states of a node as they follow each other, to the
// same resources as Translate does. What follows from an unchanged part of the
// state is the same message as before, and not only an equal one. The zero value
// is ready for use, by one goroutine.
type Translator struct {
	node  dmsc.NodeID
	addrs Addrs
	made  map[string]part // of the last state without a fault
}

// part is something that was made, and all but Node and Addrs that it was made
// from.
type part struct{ from, made any }

// once makes the part of that name, unless the last state had it already, from
// the same.
func once[T any](b *builder, name string, from any, make func() T) T {
	p, ok := b.last[name]
	if !ok || !reflect.DeepEqual(p.from, from) {
		p = part{from, make()}
	}
	b.made[name] = p
	return p.made.(T)
}

// Translate is the function Translate, with a memory of the last state.
func (t *Translator) Translate(s State) (Resources, error) {
	if s.RIB == nil {
		s.RIB = rib.NewRIB(s.Node)
	}
	b := newBuilder(s)
	if t.node == s.Node && t.addrs == s.Addrs {
		b.last = t.made
	}
	b.check()
	r := Resources{
		Listeners: once(b, "listeners", listenerInput{b.Strict, b.AccessLog, b.Outside}, b.listeners),
		Routes:    b.routes(),
		Clusters:  make(map[string]*clusterv3.Cluster),
		Endpoints: make(map[string]*endpointv3.ClusterLoadAssignment),
	}
	for _, m := range b.clusters() {
		r.Clusters[m.cluster.Name] = m.cluster
		if m.endpoints != nil {
			r.Endpoints[m.cluster.Name] = m.endpoints
		}
	}
	if err := errors.Join(b.faults...); err != nil {
		return Resources{}, fmt.Errorf("translate %s: %w", s.Node, err)
	}
	if err := r.seal(b); err != nil {
		return Resources{}, fmt.Errorf("translate %s: %w", s.Node, err)
	}
	t.node, t.addrs, t.made = s.Node, s.Addrs, b.made
	return r, nil
}

// builder indexes a State for the files of this package. It collects faults
// instead of stopping at the first.
type builder struct {
	State
	links    map[linkstate.LinkKey]Neighbour
	local    map[dmsc.ServicePrefix]*rib.Entry // announced and delivered here
	services map[dmsc.ServicePrefix][]Service
	steering map[dmsc.ServicePrefix][]WeightedPath // usable ones only
	faults   []error

	last, made map[string]part // see Translator
}

func newBuilder(s State) *builder {
	b := &builder{
		State:    s,
		links:    make(map[linkstate.LinkKey]Neighbour),
		local:    make(map[dmsc.ServicePrefix]*rib.Entry),
		services: make(map[dmsc.ServicePrefix][]Service),
		steering: make(map[dmsc.ServicePrefix][]WeightedPath),
		made:     make(map[string]part),
	}
	for _, n := range s.Neighbours {
		b.links[n.LinkKey] = n
	}
	for e := range s.RIB.All() {
		if e.Kind == rib.Announced && e.Local {
			b.local[e.Prefix] = e
		}
	}
	for _, service := range s.Services {
		b.services[service.Prefix] = append(b.services[service.Prefix], service)
	}
	for _, steering := range s.Steering {
		if paths := b.usable(steering); len(paths) > 0 {
			b.steering[steering.Prefix] = paths
		}
	}
	return b
}

// check finds the faults that the builders themselves would not come upon.
func (b *builder) check() {
	for _, s := range b.Steering {
		b.fault(s.Validate(b.Node))
	}
	for _, a := range b.Aliases {
		b.fault(a.Validate())
	}
	for _, e := range b.Externals {
		b.fault(e.Validate())
	}
	b.fault(b.AccessLog.Validate())
}

func (b *builder) fault(err error) {
	if err != nil {
		b.faults = append(b.faults, err)
	}
}

// seal adds the virtual host dmsc/hello, whose answer depends on all other
// routes.
func (r *Resources) seal(b *builder) error {
	sum := sha256.New()
	var buf []byte
	for _, m := range sortedValues(r.Routes) {
		var err error
		buf, err = proto.MarshalOptions{Deterministic: true}.MarshalAppend(buf[:0], m)
		if err != nil {
			return fmt.Errorf("route table %s: %w", m.Name, err)
		}
		sum.Write(buf) // which begin with the name
	}
	r.Generation = hex.EncodeToString(sum.Sum(nil)[:8])
	fabric := r.Routes[fabricName]
	fabric.VirtualHosts = slices.Insert(fabric.VirtualHosts, 0, b.hello(r.Generation))
	return nil
}

// neighbours are the nodes on the far ends of the links, sorted.
func (b *builder) neighbours() []dmsc.NodeID {
	seen := make(map[dmsc.NodeID]bool)
	for _, n := range b.Neighbours {
		seen[n.Remote] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// sortedLinks are the links by (Remote, ID), whatever order the State had.
func (b *builder) sortedLinks() []Neighbour {
	return slices.SortedFunc(maps.Values(b.links), func(x, y Neighbour) int { return x.LinkKey.Compare(y.LinkKey) })
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// sortedValues lists the values of m in the order of their keys.
func sortedValues[V any](m map[string]V) []V {
	values := make([]V, 0, len(m))
	for _, k := range sortedKeys(m) {
		values = append(values, m[k])
	}
	return values
}
