package translator_test

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc/translator"
)

func TestYAMLKeepsTextThatLooksLikeSomethingElse(t *testing.T) {
	for _, text := range []string{"on", "no", "007", "1e3", "0x10", "null", "~", "12:30:45", "", "*", ">*", "a: b", "- x", "# x", "line\nline", "\"q\"", "\\", "é\u2028", "<sg-1>"} {
		in := &corev3.Node{Id: text, UserAgentName: "x", Locality: &corev3.Locality{}, ClientFeatures: []string{text, "y"}}
		out, err := translator.YAML(in)
		if err != nil {
			t.Fatal(err)
		}
		json, err := yaml.YAMLToJSON(out)
		if err != nil {
			t.Fatalf("%q: %v\n%s", text, err, out)
		}
		back := new(corev3.Node)
		if err := protojson.Unmarshal(json, back); err != nil || !proto.Equal(in, back) {
			t.Errorf("%q came back as %v (%v):\n%s", text, back, err, out)
		}
	}
}

func TestYAMLFollowsTheOrderOfFields(t *testing.T) {
	got, err := translator.YAML(&corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 1},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	const want = "socket_address:\n  address: \"127.0.0.1\"\n  port_value: 1\n"
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
