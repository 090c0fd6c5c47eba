package xds

import (
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
)

// request is what both dialects ask.
type request struct {
	message proto.Message
	node    string // node.id, if the request carries it
	typeURL string
	nonce   string // of the response it answers; "" = none
	refused bool   // error_detail is set, whatever version and nonce say
	words   string // error_detail's message

	subscribe, unsubscribe []string
	initial                map[string]string // name → version, on a type's first request

	// state-of-the-world
	whole   bool // names is the whole subscription
	names   []string
	version string // what the client says it runs
}

// dialect is the wire form of one stream. recv is called from one goroutine,
// the rest from another.
type dialect interface {
	recv() (*request, error)
	// encode returns nil if the dialect has no words for resp.
	encode(t Type, resp *response, sub *subscription, version string) proto.Message
	write(proto.Message) error
}

// deltaDialect is incremental ADS.
type deltaDialect struct {
	str discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
}

func (d *deltaDialect) recv() (*request, error) {
	m, err := d.str.Recv()
	if err != nil {
		return nil, err
	}
	return &request{
		message: m, node: m.GetNode().GetId(), typeURL: m.GetTypeUrl(),
		nonce: m.GetResponseNonce(), refused: m.GetErrorDetail() != nil, words: m.GetErrorDetail().GetMessage(),
		subscribe: m.GetResourceNamesSubscribe(), unsubscribe: m.GetResourceNamesUnsubscribe(),
		initial: m.GetInitialResourceVersions(),
	}, nil
}

func (*deltaDialect) encode(t Type, resp *response, _ *subscription, version string) proto.Message {
	m := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: t.URL(), Nonce: resp.nonce, SystemVersionInfo: version}
	for _, name := range slices.Sorted(maps.Keys(resp.items)) {
		if r := resp.items[name]; r != nil {
			m.Resources = append(m.Resources, r.wire)
		} else {
			m.RemovedResources = append(m.RemovedResources, name)
		}
	}
	return m
}

func (d *deltaDialect) write(m proto.Message) error {
	return d.str.Send(m.(*discoveryv3.DeltaDiscoveryResponse))
}

// sotwDialect is state-of-the-world ADS: clusters and listeners are always
// sent whole, and absence removes; endpoints and routes are sent one by one and
// cannot be removed.
type sotwDialect struct {
	str discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer
}

func (d *sotwDialect) recv() (*request, error) {
	m, err := d.str.Recv()
	if err != nil {
		return nil, err
	}
	return &request{
		message: m, node: m.GetNode().GetId(), typeURL: m.GetTypeUrl(),
		nonce: m.GetResponseNonce(), refused: m.GetErrorDetail() != nil, words: m.GetErrorDetail().GetMessage(),
		whole: true, names: m.GetResourceNames(), version: m.GetVersionInfo(),
	}, nil
}

func (*sotwDialect) encode(t Type, resp *response, sub *subscription, _ string) proto.Message {
	all := resp.items
	if t == Clusters || t == Listeners {
		all = sub.full(resp)
	}
	m := &discoveryv3.DiscoveryResponse{TypeUrl: t.URL(), Nonce: resp.nonce}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if r := all[name]; r != nil {
			m.Resources = append(m.Resources, r.wire.GetResource())
		}
	}
	if len(m.Resources) == 0 && (t == Endpoints || t == Routes) {
		return nil
	}
	m.VersionInfo = versionOfAll(all)
	return m
}

func (d *sotwDialect) write(m proto.Message) error {
	return d.str.Send(m.(*discoveryv3.DiscoveryResponse))
}

// versionOfAll names what one message holds. For all resources of a set's
// type it is the version of that type.
func versionOfAll(all map[string]*resource) string {
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if r := all[name]; r != nil {
			text = append(append(append(append(text, name...), 0), r.version...), 0)
		}
	}
	return shortHash(text)
}
