package xds

import (
	"errors"
	"fmt"
	"io"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protodelim"
)

// Pin is what a node is pinned to, whole: for a file, so that the next server
// goes on with it.
type Pin struct {
	Version   string    // as History has it
	Published time.Time // for the first time
	Since     time.Time // of the Rollback
	OnDemand  []string  // as in Set
	About     any       // of the Set
	// The resources have a form of their own: see WriteResources.
	resources []*discoveryv3.Resource
}

// WriteResources writes the set: each resource, in the order of types and names,
// as a discovery.v3.Resource behind its length.
func (p Pin) WriteResources(w io.Writer) error {
	for _, r := range p.resources {
		if _, err := protodelim.MarshalTo(w, r); err != nil {
			return fmt.Errorf("write resource %s: %w", r.GetName(), err)
		}
	}
	return nil
}

// ReadResources reads what WriteResources has written, up to the end of r. A
// resource of more than limit bytes is an error.
func (p *Pin) ReadResources(r protodelim.Reader, limit int64) error {
	p.resources = nil
	for {
		one := &discoveryv3.Resource{}
		err := protodelim.UnmarshalOptions{MaxSize: limit}.UnmarshalFrom(r, one)
		switch {
		case errors.Is(err, io.EOF): // between two
			return nil
		case err != nil:
			return fmt.Errorf("read resource %d: %w", len(p.resources)+1, err)
		}
		p.resources = append(p.resources, one)
	}
}

// Pin returns what a node is pinned to; ok is false if it is not.
func (s *Server) Pin(name string) (p Pin, ok bool) {
	n, err := s.known(name)
	if err != nil {
		return Pin{}, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pin == nil {
		return Pin{}, false
	}
	p = Pin{Version: n.pin.to.version, Published: n.pin.to.time, Since: n.pin.since, About: n.pin.to.about}
	for _, c := range n.pin.set.types {
		for r := range c.sorted() {
			p.resources = append(p.resources, r.wire)
			if c.onDemand[r.name] {
				p.OnDemand = append(p.OnDemand, r.name)
			}
		}
	}
	return p, true
}

// Restore pins a node that nothing was published to yet to what an earlier
// server had it pinned to. It is served from the first Publish on, of which it
// has the endpoints: what the client runs is newer in these than the Pin. A set
// that Publish would refuse is refused, and the node is not pinned.
func (s *Server) Restore(name string, p Pin) error {
	set, err := p.set()
	if err != nil {
		return fmt.Errorf("restore the pin of %s: %w", name, err)
	}
	c, err := compile(set)
	if err != nil {
		return fmt.Errorf("restore the pin of %s: %w", name, err)
	}
	n := s.published(name)
	n.publishing.Lock()
	defer n.publishing.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.history) > 0 {
		return fmt.Errorf("restore the pin of %s: something was published to it", name)
	}
	to := &past{
		version: p.Version, lasting: c.lasting(nil), time: p.Published, last: p.Published, times: 1,
		changes: new([numTypes]Changes), set: c, about: p.About,
	}
	n.history, n.pin = []*past{to}, &pin{to: to, set: c, since: p.Since}
	return nil
}

// set is the Set of a Pin.
func (p Pin) set() (set Set, err error) {
	set = Set{OnDemand: p.OnDemand, About: p.About, served: true}
	for _, r := range p.resources {
		m, err := r.GetResource().UnmarshalNew()
		if err != nil {
			return Set{}, fmt.Errorf("resource %s: %w", r.GetName(), err)
		}
		switch m := m.(type) {
		case *clusterv3.Cluster:
			set.Clusters = append(set.Clusters, m)
		case *endpointv3.ClusterLoadAssignment:
			set.Endpoints = append(set.Endpoints, m)
		case *routev3.RouteConfiguration:
			set.Routes = append(set.Routes, m)
		case *listenerv3.Listener:
			set.Listeners = append(set.Listeners, m)
		default:
			return Set{}, fmt.Errorf("resource %s: %s is not served here", r.GetName(), r.GetResource().GetTypeUrl())
		}
	}
	if len(p.resources) == 0 {
		return Set{}, errors.New("it has no resources")
	}
	return set, nil
}

// likely is the set that the next one is most likely like, nil for none.
func (n *node) likely() *compiled {
	if n.newest == nil && n.pin != nil {
		return n.pin.set
	}
	return n.newest
}
