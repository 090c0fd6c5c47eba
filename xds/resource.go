package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"weak"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Type is one of the four resource types served, in the order in which an
// update is sent.
type Type uint8

const (
	Clusters Type = iota
	Endpoints
	Routes
	Listeners
	numTypes
)

var typeURLs = [numTypes]string{
	Clusters:  "type.googleapis.com/envoy.config.cluster.v3.Cluster",
	Endpoints: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
	Routes:    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
	Listeners: "type.googleapis.com/envoy.config.listener.v3.Listener",
}

// URL is the type URL of the wire.
func (t Type) URL() string { return typeURLs[t] }

// String is the short name: clusters, endpoints, routes, listeners.
func (t Type) String() string {
	return [numTypes]string{"clusters", "endpoints", "routes", "listeners"}[t]
}

func typeOf(url string) (Type, bool) {
	i := slices.Index(typeURLs[:], url)
	return Type(i), i >= 0
}

// resource is one named message, compiled: immutable and shared by all
// streams.
type resource struct {
	name    string
	version string // hash of the content
	message identity
	wire    *discoveryv3.Resource
	refs    []ref  // what it needs, sorted
	hosts   []host // of a route table
}

// ref names a resource that another one needs.
type ref struct {
	typ  Type
	name string
}

// compiled is a validated Set. Immutable.
type compiled struct {
	version  string
	versions [numTypes]string
	byName   [numTypes]map[string]*resource
	// clustersOf lists the clusters that take their endpoints from an
	// assignment, by its name, sorted.
	clustersOf map[string][]string
	// routed are the route tables that a listener takes from RDS.
	routed map[string]bool
	// onDemand are the clusters outside the wildcard.
	onDemand map[string]bool
}

func (c *compiled) get(t Type, name string) *resource {
	if c == nil {
		return nil
	}
	return c.byName[t][name]
}

// required: Envoy will ask for it because another resource of the set names it
// (endpoints, routes), or because Envoy asks for all of its type (clusters,
// listeners).
func (c *compiled) required(t Type, name string) bool {
	if c.get(t, name) == nil {
		return false
	}
	switch t {
	case Clusters:
		return !c.onDemand[name]
	case Endpoints:
		return slices.ContainsFunc(c.clustersOf[name], func(cluster string) bool { return !c.onDemand[cluster] })
	case Routes:
		return c.routed[name]
	default:
		return true
	}
}

// change is one name whose resource differs between two sets.
type change struct {
	typ  Type
	name string
}

// compile validates set and marshals what last did not already hold. Every
// fault of the set is in the error.
func compile(set Set, last *compiled) (*compiled, error) {
	c := &compiled{clustersOf: map[string][]string{}, routed: map[string]bool{}, onDemand: map[string]bool{}}
	v := newValidator()
	for i, messages := range set.messages() {
		t := Type(i)
		c.byName[t] = make(map[string]*resource, len(messages))
		for _, m := range messages {
			name := nameOf(m.Message)
			if name == "" || name == "*" {
				v.fault("%s: a resource has the name %q", t, name)
				continue
			}
			if c.byName[t][name] != nil {
				v.fault("%s %s: defined twice", t, name)
				continue
			}
			r, err := compileResource(t, name, m, last.get(t, name), v)
			if err != nil {
				return nil, fmt.Errorf("%s %s: marshal: %w", t, name, err)
			}
			c.byName[t][name] = r
		}
	}
	v.closure(c, set.Static)
	for _, name := range set.OnDemand {
		if c.get(Clusters, name) == nil {
			v.fault("clusters %s: on demand, and not in the set", name)
		}
		c.onDemand[name] = true
	}
	if err := v.err(); err != nil {
		return nil, err
	}
	c.link()
	c.hash()
	return c, nil
}

var deterministic = proto.MarshalOptions{Deterministic: true}

func compileResource(t Type, name string, m message, last *resource, v *validator) (*resource, error) {
	if last != nil && last.message == m.identity {
		return &resource{name: name, version: last.version, message: m.identity, wire: last.wire, refs: last.refs, hosts: last.hosts}, nil
	}
	if rc, ok := m.Message.(*routev3.RouteConfiguration); ok {
		return compileTable(name, rc, last, v)
	}
	value, err := deterministic.Marshal(m.Message)
	if err != nil {
		return nil, err
	}
	version := shortHash(value)
	if last != nil && last.version == version {
		return &resource{name: name, version: version, message: m.identity, wire: last.wire, refs: last.refs}, nil
	}
	return &resource{
		name: name, version: version, message: m.identity,
		refs: v.resource(t, name, m.Message),
		wire: &discoveryv3.Resource{
			Name: name, Version: version,
			Resource: &anypb.Any{TypeUrl: t.URL(), Value: value},
		},
	}, nil
}

// link indexes who needs what.
func (c *compiled) link() {
	for name, r := range c.byName[Clusters] {
		for _, ref := range r.refs {
			c.clustersOf[ref.name] = append(c.clustersOf[ref.name], name)
		}
	}
	for _, r := range c.byName[Listeners] {
		for _, ref := range r.refs {
			if ref.typ == Routes {
				c.routed[ref.name] = true
			}
		}
	}
	for _, names := range c.clustersOf {
		slices.Sort(names)
	}
}

func (c *compiled) hash() {
	whole := sha256.New()
	for t, all := range c.byName {
		c.versions[t] = versionOfAll(all)
		fmt.Fprintf(whole, "%s\x00", c.versions[t])
	}
	for _, name := range slices.Sorted(maps.Keys(c.onDemand)) {
		fmt.Fprintf(whole, "%s\x00", name)
	}
	c.version = hex.EncodeToString(whole.Sum(nil)[:8])
}

// diff lists the names whose resource is not the same in two sets, either of
// which may be nil.
func diff(from, to *compiled) []change {
	var changes []change
	for t := range numTypes {
		var a, b map[string]*resource
		if from != nil {
			a = from.byName[t]
		}
		if to != nil {
			b = to.byName[t]
		}
		for name, r := range b {
			if old := a[name]; old == nil || old.version != r.version || from.required(t, name) != to.required(t, name) {
				changes = append(changes, change{t, name})
			}
		}
		for name := range a {
			if b[name] == nil {
				changes = append(changes, change{t, name})
			}
		}
	}
	return changes
}

// message is one of a Set.
type message struct {
	proto.Message
	identity
}

// identity is a weak.Pointer to a message: a large route table takes twice as
// much memory as a message than it does as bytes.
type identity any

func (s Set) messages() [numTypes][]message {
	return [numTypes][]message{
		Clusters:  asMessages(s.Clusters),
		Endpoints: asMessages(s.Endpoints),
		Routes:    asMessages(s.Routes),
		Listeners: asMessages(s.Listeners),
	}
}

func asMessages[T any, M interface {
	*T
	proto.Message
}](in []M) []message {
	out := make([]message, len(in))
	for i, m := range in {
		out[i] = message{m, weak.Make((*T)(m))}
	}
	return out
}

func nameOf(m proto.Message) string {
	switch m := m.(type) {
	case *endpointv3.ClusterLoadAssignment:
		return m.GetClusterName()
	case interface{ GetName() string }:
		return m.GetName()
	}
	return ""
}

// shortHash is 64 bits: enough for a few thousand names of which each is only
// ever compared with its own older versions.
func shortHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
