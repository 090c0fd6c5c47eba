package envoysim_test

import (
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/translator/envoysim"
)

// twoNextHops are the resources of a gateway with two equal next hops to a/1 and
// an external host whose GETs are retried.
func twoNextHops(t *testing.T) translator.Resources {
	s := translator.State{
		Node: "sg-1", Role: dmsc.RoleSG,
		Addrs:     translator.Addrs{Ingress: "127.0.0.1:15900", Fabric: "127.0.0.1:15901", Probe: "127.0.0.1:15902"},
		Externals: []translator.External{{Name: "web", Host: "web.example", Port: 80, Protocol: dmsc.HTTP1, Endpoints: []string{"192.0.2.1"}, Retries: 3}},
	}
	group := new(rib.Group)
	for _, id := range []dmsc.NodeID{"sr-1", "sr-2"} {
		link := linkstate.LinkKey{Remote: id, ID: "0"}
		n := translator.Neighbour{Data: map[dmsc.NodeID]string{"sr-1": "192.0.2.11:1", "sr-2": "192.0.2.12:1"}[id], Class: dmsc.WAN, Up: true}
		n.LinkKey = link
		s.Neighbours = append(s.Neighbours, n)
		group.Primaries = append(group.Primaries, rib.NextHop{LinkKey: link, Weight: 1})
	}
	group.Name = rib.GroupName(group.Primaries, nil)
	s.RIB = rib.NewRIB("sg-1", &rib.Entry{Prefix: dmsc.MustParsePrefix("a/1"), Kind: rib.Announced, Group: group, Egress: []dmsc.NodeID{"sg-2"}})
	r, err := translator.Translate(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func networkOf(t *testing.T, r translator.Resources) *envoysim.Network {
	node, err := envoysim.New(r)
	if err != nil {
		t.Fatal(err)
	}
	network, err := envoysim.NewNetwork(map[dmsc.NodeID]*envoysim.Node{"sg-1": node})
	if err != nil {
		t.Fatal(err)
	}
	return network
}

// What the predicate previous_hosts is for: a retry does not go to the host that
// has just refused it, as long as there is another. Without it, it may.
func TestARetryAvoidsTheHostThatRefused(t *testing.T) {
	for _, predicate := range []bool{true, false} {
		r := twoNextHops(t)
		if !predicate {
			for _, host := range r.Routes["dmsc/ingress"].VirtualHosts {
				withoutPredicate(host.RetryPolicy)
				for _, route := range host.Routes {
					withoutPredicate(route.GetRoute().GetRetryPolicy())
				}
			}
		}
		network := networkOf(t, r)
		network.Dead = func(_ dmsc.NodeID, address string) bool { return address == "192.0.2.11:1" }
		request := envoysim.Request{Headers: envoysim.Headers{{Name: "dmsc-service-prefix", Value: "a/1"}}}
		step, err := network.Walk("sg-1", "dmsc/ingress", request, envoysim.Heaviest)
		if err != nil {
			t.Fatal(err)
		}
		if avoids := step.Pod == "192.0.2.12:1" && len(step.Tries) == 2; avoids != predicate {
			t.Errorf("predicate %t: answered by %q after %d tries", predicate, step.Pod, len(step.Tries))
		}
	}
}

func withoutPredicate(p *routev3.RetryPolicy) {
	if p != nil {
		p.RetryHostPredicate = nil
	}
}

// A policy with retriable_request_headers is for requests that meet one of
// them: here by their method.
func TestOnlyRequestsThatThePolicyAsksForAreRetried(t *testing.T) {
	network := networkOf(t, twoNextHops(t))
	network.Dead = func(dmsc.NodeID, string) bool { return true }
	for method, tries := range map[string]int{"GET": 4, "HEAD": 4, "OPTIONS": 4, "POST": 1, "DELETE": 1} {
		step, err := network.Walk("sg-1", "dmsc/ingress", envoysim.Request{Method: method, Authority: "web.example"}, envoysim.Heaviest)
		if err != nil {
			t.Fatal(err)
		}
		if len(step.Tries) != tries {
			t.Errorf("%s is tried %d times, want %d", method, len(step.Tries), tries)
		}
	}
}

// Blanks around a value are no part of it: to Envoy, and hence here.
func TestBlanksAroundAHeaderAreNoPartOfIt(t *testing.T) {
	network := networkOf(t, twoNextHops(t))
	for _, name := range []string{" a/1", "a/1 ", "\ta/1 \t"} {
		r := envoysim.Request{Headers: envoysim.Headers{{Name: "dmsc-service-prefix", Value: name}}}
		step, err := network.Walk("sg-1", "dmsc/ingress", r, envoysim.Heaviest)
		if err != nil || step.Pod == "" {
			t.Errorf("%q: %+v %v", name, step, err)
		}
		if r.Headers[0].Value != name {
			t.Errorf("the caller's header has become %q", r.Headers[0].Value)
		}
	}
}
