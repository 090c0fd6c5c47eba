package translator

import (
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
)

// Resources are the complete configuration of one Envoy, each map keyed by the
// name of the resource. Listeners take their routes by RDS and clusters their
// endpoints by EDS, both from State.Source; only external hosts are found by DNS. Resources are not changed after Translate.
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
	// OnDemand are clusters that Envoy is not given before it asks for them, sorted.
	OnDemand []string
}

// Translate turns the state of a node into its Envoy resources. Equal states
// give equal resources. An error joins every fault of the state; it is the
// caller's mistake (an address with a host name, a group over a link that is
// not among the neighbours, a malformed steering), never a lack of routes.
func Translate(s State) (Resources, error) { return new(Translator).Translate(s) }

// Translator translates the states of a node as they follow each other, to the
// same resources as Translate does. What follows from an unchanged part of the
// state is the same message as before, and not only an equal one. It keeps what
// it is given: a State is not changed after Translate. The zero value is ready
// for use, by one goroutine.
type Translator struct {
	names  *names
	made   map[string]product // of the last state without a fault
	routed State              // that state, see routing
	tables
}

// product is something that was made, and all but Node, Addrs and Source that it was
// made from.
type product struct{ from, made any }

// once makes the product of that name, unless the last state had it already,
// from the same.
func once[T any](b *builder, name string, from any, make func() T) T {
	p, ok := b.last[name]
	if !ok || !reflect.DeepEqual(p.from, from) {
		p = product{from, make()}
	}
	b.made[name] = p
	return p.made.(T)
}

// Translate is the function Translate, with a memory of the last state.
func (t *Translator) Translate(s State) (Resources, error) {
	if s.RIB == nil {
		s.RIB = rib.NewRIB(s.Node)
	}
	if t.names == nil || t.routed.Node != s.Node || t.routed.Addrs != s.Addrs || t.routed.Source != s.Source {
		*t = Translator{names: newNames(s.Node)}
	}
	b := newBuilder(s)
	b.last, b.names = t.made, t.names
	b.names.follow(s.RIB, b.steering)
	b.check()
	r := Resources{
		Listeners: once(b, "listeners", listenerInput{b.Strict, b.Closed, b.OnDemand, b.AccessLog, b.Outside}, b.listeners),
		Clusters:  make(map[string]*clusterv3.Cluster),
		Endpoints: make(map[string]*endpointv3.ClusterLoadAssignment),
	}
	for _, m := range b.clusters() {
		r.Clusters[m.cluster.Name] = m.cluster
		if m.endpoints != nil {
			r.Endpoints[m.cluster.Name] = m.endpoints
		}
	}
	if b.OnDemand {
		for _, groups := range [][]*rib.Group{b.RIB.Groups, b.Retired} {
			for _, g := range groups {
				r.OnDemand = append(r.OnDemand, GroupCluster(g))
			}
		}
		slices.Sort(r.OnDemand)
	}
	routed := routing(s)
	var tables map[string]*routev3.RouteConfiguration
	same := routed.RIB == t.routed.RIB && reflect.DeepEqual(routed, t.routed)
	if !same {
		tables = b.routes()
	}
	if err := errors.Join(b.faults...); err != nil {
		return Resources{}, fmt.Errorf("translate %s: %w", s.Node, err)
	}
	if same {
		for name, p := range t.made { // the virtual hosts among them
			if _, again := b.made[name]; !again {
				b.made[name] = p
			}
		}
	} else if err := t.tables.settle(tables, b.hello); err != nil {
		return Resources{}, fmt.Errorf("translate %s: %w", s.Node, err)
	}
	r.Routes, r.Generation = maps.Clone(t.tables.sealed), t.tables.generation
	t.made, t.routed = b.made, routed
	return r, nil
}

// routing is a state without what no route follows from: where neighbours are,
// and whether they live. That is what changes when nobody must wait.
func routing(s State) State {
	s.Neighbours = slices.Clone(s.Neighbours)
	for i := range s.Neighbours {
		s.Neighbours[i].Data, s.Neighbours[i].Up = "", false
	}
	return s
}

// builder indexes a State for the files of this package. It collects faults
// instead of stopping at the first.
type builder struct {
	State
	links    map[linkstate.LinkKey]Neighbour
	services map[dmsc.ServicePrefix][]Service
	steering map[dmsc.ServicePrefix][]WeightedPath // usable ones only
	faults   []error

	names      *names             // see Translator
	last, made map[string]product // see once
}

func newBuilder(s State) *builder {
	b := &builder{
		State:    s,
		links:    make(map[linkstate.LinkKey]Neighbour),
		services: make(map[dmsc.ServicePrefix][]Service),
		steering: make(map[dmsc.ServicePrefix][]WeightedPath),
		made:     make(map[string]product),
	}
	for _, n := range s.Neighbours {
		b.links[n.LinkKey] = n
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
