package envoysim

import (
	"encoding/json"
	"errors"
	"fmt"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/translator"
)

// FromConfigDump reads what an Envoy's admin listener answers to
// /config_dump?include_eds: what it really runs, with the health that it was
// told. Clusters that no route names are left out: they are not of the data
// plane.
func FromConfigDump(text []byte) (dmsc.NodeID, translator.Resources, error) {
	d := dump{Resources: translator.Resources{
		Listeners: make(map[string]*listenerv3.Listener),
		Routes:    make(map[string]*routev3.RouteConfiguration),
		Clusters:  make(map[string]*clusterv3.Cluster),
		Endpoints: make(map[string]*endpointv3.ClusterLoadAssignment),
	}}
	if err := d.read(text); err != nil {
		return "", translator.Resources{}, fmt.Errorf("config_dump: %w", err)
	}
	named := make(map[string]bool)
	for _, table := range d.Routes {
		for _, host := range table.VirtualHosts {
			for _, route := range host.Routes {
				for _, c := range clustersOf(route.GetRoute()) {
					named[c.Name] = true
				}
			}
		}
	}
	for name, c := range d.Clusters {
		switch {
		case !named[name]:
			delete(d.Clusters, name)
		case d.Endpoints[name] != nil:
			c.LoadAssignment = nil // the same again
		}
	}
	for name := range d.Endpoints {
		if d.Clusters[name] == nil {
			delete(d.Endpoints, name)
		}
	}
	return d.node, d.Resources, nil
}

type dump struct {
	translator.Resources
	node dmsc.NodeID
}

func (d *dump) read(text []byte) error {
	var parts struct {
		Configs []json.RawMessage `json:"configs"`
	}
	if err := json.Unmarshal(text, &parts); err != nil {
		return err
	}
	endpoints := false
	for _, part := range parts.Configs {
		var kind struct {
			Type      string `json:"@type"`
			Bootstrap struct {
				Node struct {
					ID dmsc.NodeID `json:"id"`
				} `json:"node"`
			} `json:"bootstrap"`
		}
		if err := json.Unmarshal(part, &kind); err != nil {
			return err
		}
		var err error
		switch kind.Type {
		case "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump":
			d.node = kind.Bootstrap.Node.ID
		case "type.googleapis.com/envoy.admin.v3.ListenersConfigDump":
			err = d.listeners(part)
		case "type.googleapis.com/envoy.admin.v3.RoutesConfigDump":
			err = d.routes(part)
		case "type.googleapis.com/envoy.admin.v3.ClustersConfigDump":
			err = d.clusters(part)
		case "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump":
			endpoints = true
			err = d.endpoints(part)
		}
		if err != nil {
			return err
		}
	}
	if d.node == "" {
		return errors.New("there is no bootstrap with a node.id in it")
	}
	if !endpoints {
		return errors.New("there are no endpoints in it: ask for /config_dump?include_eds")
	}
	return nil
}

func (d *dump) listeners(text []byte) error {
	var l adminv3.ListenersConfigDump
	err := unmarshal(text, &l)
	for _, s := range l.StaticListeners {
		err = errors.Join(err, add(d.Listeners, s.Listener))
	}
	for _, s := range l.DynamicListeners {
		err = errors.Join(err, add(d.Listeners, s.GetActiveState().GetListener()))
	}
	return err
}

func (d *dump) routes(text []byte) error {
	var r adminv3.RoutesConfigDump
	err := unmarshal(text, &r)
	for _, s := range r.StaticRouteConfigs {
		err = errors.Join(err, add(d.Routes, s.RouteConfig))
	}
	for _, s := range r.DynamicRouteConfigs {
		err = errors.Join(err, add(d.Routes, s.RouteConfig))
	}
	return err
}

func (d *dump) clusters(text []byte) error {
	var c adminv3.ClustersConfigDump
	err := unmarshal(text, &c)
	for _, s := range c.StaticClusters {
		err = errors.Join(err, add(d.Clusters, s.Cluster))
	}
	for _, s := range c.DynamicActiveClusters {
		err = errors.Join(err, add(d.Clusters, s.Cluster))
	}
	return err
}

func (d *dump) endpoints(text []byte) error {
	var e adminv3.EndpointsConfigDump
	err := unmarshal(text, &e)
	for _, s := range e.StaticEndpointConfigs {
		err = errors.Join(err, add(d.Endpoints, s.EndpointConfig))
	}
	for _, s := range e.DynamicEndpointConfigs {
		err = errors.Join(err, add(d.Endpoints, s.EndpointConfig))
	}
	return err
}

// unmarshal takes numbers of enums and fields that it does not know for an
// error, as everything here does.
func unmarshal(text []byte, m proto.Message) error {
	var packed anypb.Any
	err := protojson.Unmarshal(text, &packed)
	if err == nil {
		err = packed.UnmarshalTo(m)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// add puts a resource under its name. One that Envoy has not got yet is not in
// the dump.
func add[M interface {
	proto.Message
	comparable
}](to map[string]M, packed *anypb.Any) error {
	if packed == nil {
		return nil
	}
	m, err := packed.UnmarshalNew()
	if err != nil {
		return err
	}
	resource, ok := m.(M)
	if !ok {
		return fmt.Errorf("a %s is where another resource should be", m.ProtoReflect().Descriptor().FullName())
	}
	name := ""
	switch r := m.(type) {
	case interface{ GetClusterName() string }:
		name = r.GetClusterName()
	case interface{ GetName() string }:
		name = r.GetName()
	}
	to[name] = resource
	return nil
}
