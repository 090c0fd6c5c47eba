package xds

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// validator collects every fault of one Set, so that an operator repairs it
// once.
type validator struct{ faults []error }

func newValidator() *validator { return &validator{} }

func (v *validator) fault(format string, args ...any) {
	v.faults = append(v.faults, fmt.Errorf(format, args...))
}

// err joins the faults, sorted: they were found in map order.
func (v *validator) err() error {
	slices.SortFunc(v.faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(v.faults...)
}

// resource checks one message by itself and returns what it refers to.
func (v *validator) resource(t Type, name string, m proto.Message) []ref {
	v.message(t, name, m)
	refs := map[ref]struct{}{}
	switch m := m.(type) {
	case *clusterv3.Cluster:
		if service, ok := endpointsOf(m); ok {
			refs[ref{Endpoints, service}] = struct{}{}
		}
	case *listenerv3.Listener:
		chains := m.GetFilterChains()
		if d := m.GetDefaultFilterChain(); d != nil {
			chains = append(slices.Clone(chains), d)
		}
		for _, chain := range chains {
			for _, filter := range chain.GetFilters() {
				v.filter(t, name, filter.GetTypedConfig(), refs)
			}
		}
	}
	return sortedRefs(refs)
}

func sortedRefs(refs map[ref]struct{}) []ref {
	list := make([]ref, 0, len(refs))
	for r := range refs {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b ref) int {
		if a.typ != b.typ {
			return int(a.typ) - int(b.typ)
		}
		return strings.Compare(a.name, b.name)
	})
	return list
}

// message applies the generated checks, also to the packed configurations of
// extensions, which they pass by.
func (v *validator) message(t Type, name string, m proto.Message) {
	if err := validateDeep(m); err != nil {
		v.fault("%s %s: %w", t, name, err)
	}
}

func validateDeep(m proto.Message) error {
	var err error
	if m, ok := m.(interface{ ValidateAll() error }); ok {
		err = m.ValidateAll()
	}
	return errors.Join(err, validatePacked(m.ProtoReflect()))
}

func validatePacked(m protoreflect.Message) error {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil {
			return err
		}
		return validateDeep(inner)
	}
	var errs []error
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				errs = append(errs, validatePacked(v.Message()))
				return true
			})
		case field.IsMap() || field.Message() == nil:
		case field.IsList():
			for i := range v.List().Len() {
				errs = append(errs, validatePacked(v.List().Get(i).Message()))
			}
		default:
			errs = append(errs, validatePacked(v.Message()))
		}
		return true
	})
	return errors.Join(errs...)
}

// endpointsOf is the name under which a cluster asks for its endpoints.
func endpointsOf(c *clusterv3.Cluster) (string, bool) {
	if c.GetType() != clusterv3.Cluster_EDS {
		return "", false
	}
	if service := c.GetEdsClusterConfig().GetServiceName(); service != "" {
		return service, true
	}
	return c.GetName(), true
}

// filter reads the two network filters that refer to other resources.
func (v *validator) filter(t Type, name string, config *anypb.Any, refs map[ref]struct{}) {
	switch {
	case config.MessageIs((*hcmv3.HttpConnectionManager)(nil)):
		hcm := &hcmv3.HttpConnectionManager{}
		if err := config.UnmarshalTo(hcm); err != nil {
			v.fault("%s %s: %w", t, name, err)
			return
		}
		if rds := hcm.GetRds(); rds != nil {
			refs[ref{Routes, rds.GetRouteConfigName()}] = struct{}{}
		}
		if inline := hcm.GetRouteConfig(); inline != nil {
			var domains [][]uint64
			for _, vh := range inline.GetVirtualHosts() {
				v.host(t, name, vh, refs)
				domains = append(domains, domainHashes(vh))
			}
			v.unique(t, name, inline, domains, slices.Concat(domains...))
			v.mirrors(inline.GetRequestMirrorPolicies(), refs)
		}
	case config.MessageIs((*tcpproxyv3.TcpProxy)(nil)):
		tcp := &tcpproxyv3.TcpProxy{}
		if err := config.UnmarshalTo(tcp); err != nil {
			v.fault("%s %s: %w", t, name, err)
			return
		}
		if c := tcp.GetCluster(); c != "" {
			refs[ref{Clusters, c}] = struct{}{}
		}
		for _, w := range tcp.GetWeightedClusters().GetClusters() {
			refs[ref{Clusters, w.GetName()}] = struct{}{}
		}
	}
}

func (*validator) mirrors(policies []*routev3.RouteAction_RequestMirrorPolicy, refs map[ref]struct{}) {
	for _, p := range policies {
		if c := p.GetCluster(); c != "" {
			refs[ref{Clusters, c}] = struct{}{}
		}
	}
}

// closure checks that whatever a resource refers to is in the set, or in
// Envoy's bootstrap.
func (v *validator) closure(byName [numTypes]map[string]*resource, static []string) {
	for t, all := range byName {
		for name, r := range all {
			for _, ref := range r.refs {
				if byName[ref.typ][ref.name] != nil || ref.typ == Clusters && slices.Contains(static, ref.name) {
					continue
				}
				v.fault("%s %s: refers to %s %q, which the set does not have", Type(t), name, ref.typ, ref.name)
			}
		}
	}
}
