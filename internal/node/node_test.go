package node

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/xds"
)

// With an address that Envoy does not take the node would start and publish
// nothing, for ever; with such tags it would be no node to its neighbours.
func TestNewNamesEverythingThatEnvoyOrNeighboursWouldRefuse(t *testing.T) {
	_, err := New(&config.Node{
		Node: "sg-1", StateDir: t.TempDir(),
		Envoy:   config.Envoy{Ingress: ":15900", Fabric: "localhost:15901", Probe: "unix:///run/probe.sock"},
		Outside: config.Outside{Listen: "gateway.example:443"},
		Links:   []config.Link{{Neighbor: "sr-1", ID: "0", Fabric: "sg-1.example:15901", Tags: []string{""}}},
	}, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, key := range []string{"envoy.ingress", "envoy.fabric", "outside.listen", "links[0].fabric", "links[0].tags"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%q is not named in: %v", key, err)
		}
	}
	if strings.Contains(err.Error(), "envoy.probe") {
		t.Errorf("a good address is named in: %v", err)
	}
}

// The xDS listener is open to any Envoy that is given its address.
func TestAnotherNodesEnvoySaysNothingAboutOurs(t *testing.T) {
	n := &Node{cfg: &config.Node{Node: "sg-1"}, log: slog.New(slog.DiscardHandler), kickSelf: make(chan struct{}, 1)}
	envoySaid{Event: xds.Event{Kind: xds.Acked, Node: "sg-1", Version: "v1"}}.apply(n, t0)
	envoySaid{Event: xds.Event{Kind: xds.Disconnected, Node: "sg-2"}}.apply(n, t0)
	want(t, n.loop.acked, "v1")
	envoySaid{Event: xds.Event{Kind: xds.Disconnected, Node: "sg-1"}}.apply(n, t0)
	want(t, n.loop.acked, "")
}

// An Envoy with a stream per type opens and ends some at any time: it has gone
// with the last of them.
func TestAnEnvoyHasGoneWithItsLastStream(t *testing.T) {
	var said strings.Builder
	n := &Node{cfg: &config.Node{Node: "sg-1"}, log: slog.New(slog.NewTextHandler(&said, nil)), kickSelf: make(chan struct{}, 1)}
	for _, e := range []xds.Event{
		{Kind: xds.Connected, Streams: 1}, {Kind: xds.Connected, Streams: 2}, {Kind: xds.Disconnected, Streams: 1}, {Kind: xds.Disconnected},
	} {
		e.Node = "sg-1"
		envoySaid{Event: e}.apply(n, t0)
	}
	for _, message := range []string{"envoy connected", "envoy disconnected"} {
		if got := strings.Count(said.String(), message); got != 1 {
			t.Errorf("%q is said %d times:\n%s", message, got, said.String())
		}
	}
}
