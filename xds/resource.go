package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"weak"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
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

	// The wire form: body is wire's value, behind a head for each dialect.
	deltaHead, wholeHead, body mem.Buffer
}

// ref names a resource that another one needs.
type ref struct {
	typ  Type
	name string
}

// change is one name whose resource differs between two sets.
type change struct {
	typ  Type
	name string
}

// compile validates set and marshals what the sets it is like (some may be nil)
// did not already hold: the first is the one it follows. What is the same is
// shared, whole sets too. Every fault of the set is in the error.
func compile(set Set, like ...*compiled) (*compiled, error) {
	v := newValidator()
	var byName [numTypes]map[string]*resource
	for i, messages := range set.messages() {
		t := Type(i)
		byName[t] = make(map[string]*resource, len(messages))
		for _, m := range messages {
			name := nameOf(m.Message)
			if name == "" || name == "*" {
				v.fault("%s: a resource has the name %q", t, name)
				continue
			}
			if byName[t][name] != nil {
				v.fault("%s %s: defined twice", t, name)
				continue
			}
			r, err := compileResource(t, name, m, like, v)
			if err != nil {
				return nil, fmt.Errorf("%s %s: marshal: %w", t, name, err)
			}
			if r.body == nil {
				r.encode()
			}
			byName[t][name] = r
		}
	}
	if !set.served {
		v.closure(byName, set.Static)
	}
	var onDemand map[string]bool
	for _, name := range set.OnDemand {
		if byName[Clusters][name] == nil {
			v.fault("clusters %s: on demand, and not in the set", name)
		}
		if onDemand == nil {
			onDemand = map[string]bool{}
		}
		onDemand[name] = true
	}
	if err := v.err(); err != nil {
		return nil, err
	}
	var types [numTypes]*catalog
	for i, all := range byName {
		t := Type(i)
		if t == Clusters {
			types[t] = newCatalog(t, all, onDemand, like...)
		} else {
			types[t] = newCatalog(t, all, nil, like...)
		}
	}
	return newCompiled(types, like...), nil
}

var deterministic = proto.MarshalOptions{Deterministic: true}

func compileResource(t Type, name string, m message, like []*compiled, v *validator) (*resource, error) {
	var last *resource
	for _, set := range like {
		r := set.get(t, name)
		if r != nil && r.message == m.identity {
			return r, nil
		}
		if last == nil {
			last = r
		}
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

// diff lists the names whose resource is not the same in two sets, or that only
// one of them has on demand. Both may be nil.
func diff(from, to *compiled) (changes []change) {
	for t := range numTypes {
		a, b := from.typed(t), to.typed(t)
		if a == b {
			continue
		}
		for name, r := range b.all() {
			if old := a.get(name); old == nil || old.version != r.version || a.onDemand[name] != b.onDemand[name] {
				changes = append(changes, change{t, name})
			}
		}
		for name := range a.all() {
			if b.get(name) == nil {
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
