package translator

import (
	"errors"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Validate finds what Envoy would refuse and what it would accept and then
// answer with 503: messages outside their constraints, a domain that occurs
// twice, a route to a cluster or a listener with a table that does not exist,
// a cluster without endpoints. The error joins all faults.
func (r Resources) Validate() error {
	return errors.Join(
		validateAll("listener", r.Listeners),
		validateAll("route table", r.Routes),
		validateAll("cluster", r.Clusters),
		validateAll("endpoints", r.Endpoints),
		r.checkTables(),
		r.checkRoutes(),
		r.checkEndpoints(),
	)
}

// message is a resource with the generated checks of its constraints.
type message interface {
	proto.Message
	ValidateAll() error
}

func validateAll[M message](kind string, resources map[string]M) error {
	var errs []error
	for _, name := range sortedKeys(resources) {
		if err := validateDeep(resources[name]); err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", kind, name, err))
		}
	}
	return errors.Join(errs...)
}

// validateDeep also opens the packed configurations of extensions, which the
// generated checks pass by.
func validateDeep(m message) error {
	return errors.Join(m.ValidateAll(), validatePacked(m.ProtoReflect()))
}

func validatePacked(m protoreflect.Message) error {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil {
			return err
		}
		if checked, ok := inner.(message); ok {
			return validateDeep(checked)
		}
		return validatePacked(inner.ProtoReflect())
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

// checkTables compares the tables that listeners name with those that exist.
func (r Resources) checkTables() error {
	var errs []error
	for _, l := range sortedValues(r.Listeners) {
		err := eachManager(l, func(_ *listenerv3.Filter, m *hcmv3.HttpConnectionManager) error {
			if table := m.GetRds().GetRouteConfigName(); r.Routes[table] == nil {
				return fmt.Errorf("listener %s: route table %q does not exist", l.Name, table)
			}
			return nil
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// eachManager calls visit with a copy of each HTTP connection manager of a
// listener and the filter it is packed in.
func eachManager(l *listenerv3.Listener, visit func(*listenerv3.Filter, *hcmv3.HttpConnectionManager) error) error {
	for _, chain := range l.FilterChains {
		for _, filter := range chain.Filters {
			if filter.Name != managerFilter {
				continue
			}
			m := new(hcmv3.HttpConnectionManager)
			if err := filter.GetTypedConfig().UnmarshalTo(m); err != nil {
				return fmt.Errorf("listener %s: %w", l.Name, err)
			}
			if err := visit(filter, m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r Resources) checkRoutes() error {
	var errs []error
	for _, table := range sortedValues(r.Routes) {
		host := make(map[string]string) // of a domain
		names := make(map[string]bool)
		for _, h := range table.VirtualHosts {
			if names[h.Name] {
				errs = append(errs, fmt.Errorf("route table %s: virtual host %s occurs twice", table.Name, h.Name))
			}
			names[h.Name] = true
			for _, domain := range h.Domains {
				if first, ok := host[domain]; ok {
					errs = append(errs, fmt.Errorf("route table %s: domain %s is in %s and in %s", table.Name, domain, first, h.Name))
				}
				host[domain] = h.Name
			}
			for _, route := range h.Routes {
				for _, cluster := range clustersOf(route) {
					if r.Clusters[cluster] == nil {
						errs = append(errs, fmt.Errorf("route table %s: virtual host %s: cluster %q does not exist", table.Name, h.Name, cluster))
					}
				}
			}
		}
	}
	return errors.Join(errs...)
}

// clustersOf are the clusters a route may send to.
func clustersOf(route *routev3.Route) []string {
	switch specifier := route.GetRoute().GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		return []string{specifier.Cluster}
	case *routev3.RouteAction_WeightedClusters:
		var names []string
		for _, c := range specifier.WeightedClusters.Clusters {
			names = append(names, c.Name)
		}
		return names
	}
	return nil
}

func (r Resources) checkEndpoints() error {
	var errs []error
	for _, c := range sortedValues(r.Clusters) {
		if c.GetType() == clusterv3.Cluster_EDS && r.Endpoints[c.Name] == nil {
			errs = append(errs, fmt.Errorf("cluster %s has no endpoints resource", c.Name))
		}
	}
	for _, name := range sortedKeys(r.Endpoints) {
		if r.Clusters[name] == nil {
			errs = append(errs, fmt.Errorf("endpoints %s belong to no cluster", name))
		}
	}
	return errors.Join(errs...)
}
