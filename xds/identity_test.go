package xds

import (
	"runtime"
	"testing"
	"weak"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
)

// A message is judged and marshalled once, for as long as its owner keeps it;
// the server does not.
func TestAMessageIsKnownAgainAndNotKept(t *testing.T) {
	m := &endpointv3.ClusterLoadAssignment{ClusterName: "a"}
	first, err := compile(Set{Endpoints: []*endpointv3.ClusterLoadAssignment{m}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Policy = &endpointv3.ClusterLoadAssignment_Policy{} // forbidden, and so not seen
	second, err := compile(Set{Endpoints: []*endpointv3.ClusterLoadAssignment{m}}, first)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := first.get(Endpoints, "a"), second.get(Endpoints, "a"); a.wire != b.wire {
		t.Error("an unchanged message is marshalled again")
	}
	kept := weak.Make(m)
	m = nil
	for range 2 {
		runtime.GC()
	}
	if kept.Value() != nil {
		t.Error("the message is kept alive")
	}
	runtime.KeepAlive(second)
}
