package xds

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/protobuf/proto"
)

func framesOf(t *testing.T, c *compiled) []*frame {
	t.Helper()
	var items []sent
	for _, name := range c.types[Clusters].names {
		items = append(items, sent{name, c.get(Clusters, name)})
	}
	return []*frame{
		{typ: Clusters, version: "v", nonce: "1", items: append(items, sent{name: "gone"})},
		{typ: Clusters, version: "v", nonce: "2", items: items, whole: true},
		{typ: Endpoints, nonce: "3"},
	}
}

// What the client decodes is the message, whichever codec its server has.
func TestAFrameIsTheMessageItStandsFor(t *testing.T) {
	c, err := compile(manyClusters(3))
	if err != nil {
		t.Fatal(err)
	}
	plain := encoding.GetCodecV2(protocodec.Name)
	for _, f := range framesOf(t, c) {
		want := f.message()
		for _, by := range []encoding.CodecV2{codec{plain}, plain} {
			data, err := by.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			got := want.ProtoReflect().New().Interface()
			if err := by.Unmarshal(data, got); err != nil || !proto.Equal(got, want) {
				t.Errorf("%T: got %v (%v)\nwant %v", by, got, err, want)
			}
		}
	}
}

func TestTheCodecTakesOtherMessages(t *testing.T) {
	by := codec{encoding.GetCodecV2(protocodec.Name)}
	want := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: "x", ResponseNonce: "1"}
	data, err := by.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := &discoveryv3.DeltaDiscoveryRequest{}
	if err := by.Unmarshal(data, got); err != nil || !proto.Equal(got, want) {
		t.Errorf("got %v (%v)", got, err)
	}
	if by.Name() != protocodec.Name {
		t.Errorf("it is named %q", by.Name())
	}
}

func TestResponsesShareTheBytesOfAResource(t *testing.T) {
	c, err := compile(manyClusters(2))
	if err != nil {
		t.Fatal(err)
	}
	own := map[*byte]bool{}
	for _, r := range c.types[Clusters].byName {
		own[&r.wire.GetResource().GetValue()[0]] = true
	}
	for _, f := range framesOf(t, c)[:2] {
		shared := 0
		for _, b := range f.encoded() {
			if own[&b.ReadOnlyData()[0]] {
				shared++
			}
		}
		if shared != len(own) {
			t.Errorf("%d of %d resources are sent from the bytes they were compiled to", shared, len(own))
		}
	}
}
