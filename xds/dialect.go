package xds

import (
	"iter"
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
	encode(t Type, resp *response, sub *subscription, version string) *frame
	write(*frame) error
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

func (*deltaDialect) encode(t Type, resp *response, _ *subscription, version string) *frame {
	return &frame{typ: t, version: version, nonce: resp.nonce, items: resp.items}
}

func (d *deltaDialect) write(f *frame) error { return d.str.SendMsg(f) }

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

func (*sotwDialect) encode(t Type, resp *response, sub *subscription, _ string) *frame {
	var all []sent
	if t == Clusters || t == Listeners {
		sub.carry(resp)
		all = sub.full(resp)
	} else {
		all = slices.DeleteFunc(slices.Clone(resp.items), func(it sent) bool { return it.resource == nil })
		if len(all) == 0 {
			return nil
		}
	}
	return &frame{typ: t, version: versionOfAll(resources(all)), nonce: resp.nonce, items: all, whole: true}
}

func resources(items []sent) iter.Seq[*resource] {
	return func(yield func(*resource) bool) {
		for _, it := range items {
			if !yield(it.resource) {
				return
			}
		}
	}
}

func (d *sotwDialect) write(f *frame) error { return d.str.SendMsg(f) }
