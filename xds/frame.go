package xds

import (
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ServerOptions are those of a gRPC server that serves xDS: bounds that a
// client cannot exceed, and a codec by which all streams share the bytes of a
// resource, from its compilation to the socket. A Server works without them too,
// but encodes each response anew, and of a client that never reads gRPC keeps
// what it was sent until its connection ends. Connections are plain text.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(plainText()),
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(protocodec.Name)}),
		grpc.WaitForHandlers(true), // no event comes after Stop
		grpc.MaxConcurrentStreams(32),
		grpc.MaxRecvMsgSize(maxRequest),
		// Thousands of clients that have nothing to say: a small buffer to read
		// requests, and none of their own to write, which is gRPC's default.
		grpc.ReadBufferSize(4 << 10),
		// A client whose host is gone says nothing, and that for ever.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		// Our bootstrap has Envoy ping every 5 s, others may more often; by default gRPC takes that for abuse and closes.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 100 * time.Millisecond, PermitWithoutStream: true}),
	}
}

// maxRequest bounds one request in bytes: more than Config.MaxNames names of
// ordinary length, and their versions.
const maxRequest = 8 << 20

// codec is gRPC's for protobuf, except that it takes the bytes of a frame as
// they are.
type codec struct{ encoding.CodecV2 }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		return f.encoded(), nil
	}
	return c.CodecV2.Marshal(v)
}

// frame is one response on its way. Its wire form is made of the resources'
// shared bytes and a few of its own. Nothing is copied until gRPC fills its
// write buffer with as much as the client's flow-control window admits, so a
// client that does not read holds a reference, not a copy.
type frame struct {
	typ     Type
	version string // of the set (delta), or of the items
	nonce   string
	items   []sent // sorted by name
	whole   bool   // state-of-the-world: removals are not said
}

// sent is one resource of a response; nil = removed.
type sent struct {
	name string
	*resource
}

// ProtoReflect makes a frame a message like any other, for codecs that do not
// know it.
func (f *frame) ProtoReflect() protoreflect.Message { return f.message().ProtoReflect() }

// message is the plain form.
func (f *frame) message() proto.Message {
	if f.whole {
		m := &discoveryv3.DiscoveryResponse{TypeUrl: f.typ.URL(), Nonce: f.nonce, VersionInfo: f.version}
		for _, it := range f.items {
			m.Resources = append(m.Resources, it.resource.wire.GetResource())
		}
		return m
	}
	m := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: f.typ.URL(), Nonce: f.nonce, SystemVersionInfo: f.version}
	for _, it := range f.items {
		if it.resource != nil {
			m.Resources = append(m.Resources, it.resource.wire)
		} else {
			m.RemovedResources = append(m.RemovedResources, it.name)
		}
	}
	return m
}

// Field numbers of discovery.proto.
const (
	anyTypeURL, anyValue = 1, 2

	resourceVersion, resourceAny, resourceName = 1, 2, 3

	deltaVersion, deltaResources, deltaTypeURL, deltaNonce, deltaRemoved = 1, 2, 4, 5, 6

	wholeVersion, wholeResources, wholeTypeURL, wholeNonce = 1, 2, 4, 5
)

// encoded is the wire form. The order of fields is free in protobuf; the
// fields of this one response come last.
func (f *frame) encoded() mem.BufferSlice {
	out := make(mem.BufferSlice, 0, 2*len(f.items)+1)
	tail := make([]byte, 0, 112)
	for _, it := range f.items {
		switch {
		case it.resource == nil:
			tail = appendString(tail, deltaRemoved, it.name)
		case f.whole:
			out = append(out, it.wholeHead, it.body)
		default:
			out = append(out, it.deltaHead, it.body)
		}
	}
	if f.whole {
		tail = appendString(appendString(appendString(tail, wholeVersion, f.version), wholeTypeURL, f.typ.URL()), wholeNonce, f.nonce)
	} else {
		tail = appendString(appendString(appendString(tail, deltaVersion, f.version), deltaTypeURL, f.typ.URL()), deltaNonce, f.nonce)
	}
	return append(out, mem.SliceBuffer(tail))
}

// encode prepares what every response with r in it says in the same bytes.
func (r *resource) encode() {
	packed := r.wire.GetResource()
	head := appendString(nil, anyTypeURL, packed.GetTypeUrl())
	head = protowire.AppendTag(head, anyValue, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(packed.GetValue())))
	size := len(head) + len(packed.GetValue())

	whole := appendLength(nil, wholeResources, size)
	delta := appendString(appendString(nil, resourceVersion, r.version), resourceName, r.name)
	delta = appendLength(delta, resourceAny, size)
	delta = append(appendLength(nil, deltaResources, len(delta)+size), delta...)

	r.body = mem.SliceBuffer(packed.GetValue())
	r.wholeHead = mem.SliceBuffer(slices.Concat(whole, head))
	r.deltaHead = mem.SliceBuffer(slices.Concat(delta, head))
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendLength(b []byte, field protowire.Number, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(size))
}
