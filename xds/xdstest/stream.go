package xdstest

import (
	"context"
	"io"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc/xds"
)

// Dialect is one of the two forms of the protocol.
type Dialect uint8

const (
	Delta Dialect = iota // incremental
	SotW                 // state of the world
)

// String is the dialect as names of tests have it.
func (d Dialect) String() string { return [...]string{"delta", "sotw"}[d] }

// Stream is the wire of one ADS client, in either dialect. It knows no rule
// of the protocol.
type Stream struct {
	Dialect Dialect
	// In has the responses as they arrive. It is closed when the stream ends.
	In <-chan *Response

	node   string
	send   func(proto.Message) error
	cancel context.CancelFunc
	done   chan struct{}
	err    error // why it ended; after done
}

// Request is what a client may say. Each dialect has its own half.
type Request struct {
	Type    xds.Type
	Nonce   string // of the response it answers
	Refused bool   // it is a NACK
	Words   string // of the NACK

	// delta
	Subscribe, Unsubscribe []string
	Initial                map[string]string // name → version
	// state of the world
	Names   []string // the whole subscription
	Version string   // what the client runs
}

// Response is one message of the server, in the form of the delta dialect: a
// state-of-the-world response has no removals and no versions of resources,
// and its version is SystemVersionInfo.
type Response struct {
	*discoveryv3.DeltaDiscoveryResponse
	Type xds.Type
}

// Names are the resources sent, in the order of the message.
func (r *Response) Names() []string {
	names := make([]string, len(r.GetResources()))
	for i, res := range r.GetResources() {
		names[i] = res.GetName()
	}
	return names
}

// String is "clusters +a +b -c", as Expect takes it.
func (r *Response) String() string {
	words := []string{r.Type.String()}
	for _, n := range r.Names() {
		words = append(words, "+"+n)
	}
	for _, n := range r.GetRemovedResources() {
		words = append(words, "-"+n)
	}
	return strings.Join(words, " ")
}

// Open opens a stream for node; End ends it.
func Open(conn grpc.ClientConnInterface, dialect Dialect, node string) (*Stream, error) {
	ctx, cancel := context.WithCancel(context.Background())
	ads := discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
	s := &Stream{Dialect: dialect, node: node, cancel: cancel, done: make(chan struct{})}
	var recv func() (*Response, error)
	switch dialect {
	case SotW:
		str, err := ads.StreamAggregatedResources(ctx)
		if err != nil {
			cancel()
			return nil, err
		}
		s.send = func(m proto.Message) error { return str.Send(m.(*discoveryv3.DiscoveryRequest)) }
		recv = func() (*Response, error) {
			m, err := str.Recv()
			if err != nil {
				return nil, err
			}
			return fromSotW(m)
		}
	default:
		str, err := ads.DeltaAggregatedResources(ctx)
		if err != nil {
			cancel()
			return nil, err
		}
		s.send = func(m proto.Message) error { return str.Send(m.(*discoveryv3.DeltaDiscoveryRequest)) }
		recv = func() (*Response, error) {
			m, err := str.Recv()
			if err != nil {
				return nil, err
			}
			return &Response{m, typeOf(m.GetTypeUrl())}, nil
		}
	}
	in := make(chan *Response, 1024)
	s.In = in
	go func() {
		defer close(s.done)
		defer close(in)
		for {
			r, err := recv()
			if err != nil {
				s.err = err
				return
			}
			in <- r
		}
	}()
	return s, nil
}

// Send writes a request. io.EOF means that the server has ended the stream.
func (s *Stream) Send(r Request) error {
	var refusal *status.Status
	if r.Refused {
		refusal = &status.Status{Code: 13, Message: r.Words}
	}
	if s.Dialect == SotW {
		return s.SendMessage(&discoveryv3.DiscoveryRequest{
			TypeUrl: r.Type.URL(), ResponseNonce: r.Nonce, ErrorDetail: refusal, ResourceNames: r.Names, VersionInfo: r.Version,
		})
	}
	return s.SendMessage(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: r.Type.URL(), ResponseNonce: r.Nonce, ErrorDetail: refusal,
		ResourceNamesSubscribe: r.Subscribe, ResourceNamesUnsubscribe: r.Unsubscribe, InitialResourceVersions: r.Initial,
	})
}

// SendMessage writes a request as it is. The first one carries the node, and no
// other does.
func (s *Stream) SendMessage(m proto.Message) error {
	if s.node != "" {
		node := &corev3.Node{Id: s.node}
		switch m := m.(type) {
		case *discoveryv3.DeltaDiscoveryRequest:
			m.Node = node
		case *discoveryv3.DiscoveryRequest:
			m.Node = node
		}
		s.node = ""
	}
	return s.send(m)
}

// Next returns the next response if it has arrived, and io.EOF after the end.
// In a synctest bubble, after synctest.Wait, nil means that the server has
// nothing to say.
func (s *Stream) Next() (*Response, error) {
	select {
	case r, ok := <-s.In:
		if !ok {
			return nil, io.EOF
		}
		return r, nil
	default:
		return nil, nil
	}
}

// Err waits for the end of the stream and says why it ended.
func (s *Stream) Err() error {
	<-s.done
	return s.err
}

// End ends the stream and waits until nothing of it is left.
func (s *Stream) End() {
	s.cancel()
	for range s.In {
	}
	<-s.done
}

func typeOf(url string) xds.Type {
	for typ := xds.Clusters; typ <= xds.Listeners; typ++ {
		if typ.URL() == url {
			return typ
		}
	}
	return xds.Listeners + 1
}

func fromSotW(m *discoveryv3.DiscoveryResponse) (*Response, error) {
	r := &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: m.GetTypeUrl(), Nonce: m.GetNonce(), SystemVersionInfo: m.GetVersionInfo(),
	}
	for _, packed := range m.GetResources() {
		res, err := packed.UnmarshalNew()
		if err != nil {
			return nil, err
		}
		r.Resources = append(r.Resources, &discoveryv3.Resource{Name: nameOf(res), Resource: packed})
	}
	return &Response{r, typeOf(m.GetTypeUrl())}, nil
}

func nameOf(m proto.Message) string {
	switch m := m.(type) {
	case interface{ GetClusterName() string }:
		return m.GetClusterName()
	case interface{ GetName() string }:
		return m.GetName()
	}
	return ""
}
