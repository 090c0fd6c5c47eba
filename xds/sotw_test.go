package xds_test

// The rules of the state-of-the-world dialect, where they are not those of the
// other. What both have in common is in protocol_test.go and scenarios_test.go.

import (
	"strings"
	"testing"
	"testing/synctest"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// whole runs a rule with a client of sg-1, in front of a server that published
// set, in a bubble: so silence can be proved.
func whole(t *testing.T, set xds.Set, rule func(t *testing.T, f *fixture, c *xdstest.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := serve(t, xds.Config{})
		f.publish("sg-1", set)
		rule(t, f, xdstest.DialAs(t, xdstest.Serve(t, f.Server), xdstest.SotW, "sg-1"))
	})
}

// run brings a client to run simple("a").
func run(c *xdstest.Client) {
	c.Subscribe(xds.Clusters)
	clusters := c.Expect(xds.Clusters, "+a")
	c.Subscribe(xds.Endpoints, "a")
	c.ExpectAck(xds.Endpoints, "+a")
	c.Ack(clusters)
	c.Subscribe(xds.Listeners)
	c.ExpectAck(xds.Listeners, "+in")
	c.Subscribe(xds.Routes, "table")
	c.ExpectAck(xds.Routes, "+table")
}

func TestSotWMakeBeforeBreak(t *testing.T) {
	whole(t, simple("a"), func(t *testing.T, f *fixture, c *xdstest.Client) {
		run(c)
		f.event(xds.Acked)
		version := f.publish("sg-1", simple("b"))
		both := c.Expect(xds.Clusters, "+a", "+b") // all clusters, the old one still among them
		c.ExpectNothing()
		c.Subscribe(xds.Endpoints, "b")
		c.ExpectAck(xds.Endpoints, "+b") // endpoints may be sent one by one
		c.ExpectNothing()
		c.Ack(both)
		c.ExpectAck(xds.Routes, "+table")
		last := c.ExpectAck(xds.Clusters, "+b")
		f.expect(xds.Acked, version)
		c.ExpectNothing() // endpoints cannot be removed
		if want := f.status("sg-1").Types[xds.Clusters].Wanted; last.GetSystemVersionInfo() != want || both.GetSystemVersionInfo() == want {
			t.Errorf("versions: both %s, last %s, wanted %s", both.GetSystemVersionInfo(), last.GetSystemVersionInfo(), want)
		}
	})
}

func TestSotWChangedClusterGetsItsEndpointsAgain(t *testing.T) {
	whole(t, simple("a", "b"), func(t *testing.T, f *fixture, c *xdstest.Client) {
		c.Subscribe(xds.Clusters)
		c.ExpectAck(xds.Clusters, "+a", "+b")
		c.Subscribe(xds.Endpoints, "a", "b")
		c.ExpectAck(xds.Endpoints, "+a", "+b")
		set := simple("a", "b")
		set.Clusters[0] = cluster("a", 1)
		f.publish("sg-1", set)
		c.ExpectAck(xds.Clusters, "+a", "+b")
		c.ExpectAck(xds.Endpoints, "+a") // b did not change, though it was in the response
		c.ExpectNothing()
	})
}

func TestSotWRefusalIsNotAnsweredByResending(t *testing.T) {
	whole(t, simple("a"), func(t *testing.T, f *fixture, c *xdstest.Client) {
		run(c)
		f.event(xds.Acked)
		bad := simple("a")
		bad.Routes[0].VirtualHosts[0].Name = "bad"
		f.publish("sg-1", bad)
		r := c.Expect(xds.Routes, "+table")
		c.Nack(r, "no")
		if e := f.event(xds.Nacked); !strings.Contains(e.Nack.Message, "no") {
			t.Errorf("nack %+v", e.Nack)
		}
		c.ExpectNothing()
		good := simple("a")
		good.Routes[0].VirtualHosts[0].Name = "good"
		f.publish("sg-1", good)
		if healed := c.ExpectAck(xds.Routes, "+table"); healed.GetSystemVersionInfo() == r.GetSystemVersionInfo() {
			t.Error("the refused version was sent again")
		}
	})
}

// Absence removes, so what was refused keeps its place in its last good form.
func TestSotWResponseAfterARefusalKeepsWhatRuns(t *testing.T) {
	whole(t, simple("a"), func(t *testing.T, f *fixture, c *xdstest.Client) {
		run(c)
		f.event(xds.Acked)
		bad := simple("a")
		bad.Clusters[0] = cluster("a", 1)
		f.publish("sg-1", bad)
		refused := c.Expect(xds.Clusters, "+a")
		c.ExpectAck(xds.Endpoints, "+a")
		c.Nack(refused, "cluster a is bad")
		bad = simple("a", "b")
		bad.Clusters[0] = cluster("a", 1)
		f.publish("sg-1", bad)
		r := c.Expect(xds.Clusters, "+a", "+b")
		if string(r.GetResources()[0].GetResource().GetValue()) == string(refused.GetResources()[0].GetResource().GetValue()) {
			t.Error("the refused cluster was sent again")
		}
	})
}

// The clock may send a second response while the first is not answered: it
// says all that the first said.
func TestSotWResponseRepeatsWhatNobodyHasAnswered(t *testing.T) {
	whole(t, simple("a", "b"), func(t *testing.T, f *fixture, c *xdstest.Client) {
		c.Subscribe(xds.Clusters)
		c.Expect(xds.Clusters, "+a", "+b") // never answered
		f.publish("sg-1", simple("a", "b", "c"))
		c.Expect(xds.Clusters, "+a", "+b", "+c") // after the wait
	})
}

func TestSotWVersionSaysWhetherAClientThatReturnsHasItAll(t *testing.T) {
	whole(t, simple("a"), func(t *testing.T, f *fixture, before *xdstest.Client) {
		run(before)
		c := xdstest.DialAs(t, xdstest.Serve(t, f.Server), xdstest.SotW, "sg-1")
		c.Resume(xds.Clusters, before.Held[xds.Clusters])
		c.Resume(xds.Listeners, before.Held[xds.Listeners])
		c.ExpectNothing()
		c.Resume(xds.Endpoints, before.Held[xds.Endpoints], "a")
		c.ExpectAck(xds.Endpoints, "+a") // may be another selection of names: sent

		c = xdstest.DialAs(t, xdstest.Serve(t, f.Server), xdstest.SotW, "sg-1")
		c.Resume(xds.Clusters, map[string]string{"a": "another version"})
		c.ExpectAck(xds.Clusters, "+a")
	})
}

// The document's own example.
func TestSotWLegacyWildcardEndsAtTheFirstName(t *testing.T) {
	whole(t, simple("a", "b"), func(t *testing.T, f *fixture, c *xdstest.Client) {
		c.Subscribe(xds.Clusters)
		c.ExpectAck(xds.Clusters, "+a", "+b")
		c.Subscribe(xds.Clusters, "*", "a") // continues "*"
		c.ExpectAck(xds.Clusters, "+a", "+b")
		c.Unsubscribe(xds.Clusters, "*") // leaves a
		c.ExpectNothing()
		c.Unsubscribe(xds.Clusters, "a") // nothing is subscribed now
		f.publish("sg-1", simple("a", "b", "c"))
		c.ExpectNothing()
	})
}

// "The management server should not send a DiscoveryResponse for any
// DiscoveryRequest that has a stale nonce."
func TestSotWRequestWithAStaleNonceIsIgnored(t *testing.T) {
	whole(t, simple("a", "b"), func(t *testing.T, f *fixture, c *xdstest.Client) {
		c.Subscribe(xds.Endpoints, "a")
		first := c.ExpectAck(xds.Endpoints, "+a")
		set := simple("a", "b")
		set.Endpoints[0] = endpoints("a", 9090)
		f.publish("sg-1", set)
		newer := c.Expect(xds.Endpoints, "+a")
		c.Send(&discoveryv3.DiscoveryRequest{
			TypeUrl: xds.Endpoints.URL(), ResponseNonce: first.GetNonce(), VersionInfo: first.GetSystemVersionInfo(),
			ResourceNames: []string{"a", "b"},
		})
		c.ExpectNothing() // the client has not seen the newer response yet, and will ask again
		c.Ack(newer)
		c.Subscribe(xds.Endpoints, "b")
		c.ExpectAck(xds.Endpoints, "+b")
	})
}

func TestSotWNewlyRequestedNameIsSentThoughItWasSentBefore(t *testing.T) {
	whole(t, simple("a", "b"), func(t *testing.T, _ *fixture, c *xdstest.Client) {
		c.Subscribe(xds.Endpoints, "a", "b")
		c.ExpectAck(xds.Endpoints, "+a", "+b")
		c.Unsubscribe(xds.Endpoints, "b")
		c.ExpectNothing()
		c.Subscribe(xds.Endpoints, "b")
		c.ExpectAck(xds.Endpoints, "+b")
		c.ExpectNothing()
	})
}

// A NACK is an error_detail, whatever version the request repeats.
func TestSotWVersionAloneIsNoRefusal(t *testing.T) {
	whole(t, simple("a"), func(t *testing.T, f *fixture, c *xdstest.Client) {
		c.Subscribe(xds.Endpoints, "a")
		r := c.Expect(xds.Endpoints, "+a")
		c.Send(&discoveryv3.DiscoveryRequest{
			TypeUrl: xds.Endpoints.URL(), ResponseNonce: r.GetNonce(), VersionInfo: "older", ResourceNames: []string{"a"},
		})
		c.ExpectNothing()
		if ts := f.status("sg-1").Types[xds.Endpoints]; ts.Acked != ts.Wanted {
			t.Errorf("status %+v", ts)
		}
	})
}

func TestSotWAbsenceRemovesListeners(t *testing.T) {
	whole(t, simple("a"), func(t *testing.T, f *fixture, c *xdstest.Client) {
		run(c)
		set := simple("a")
		set.Listeners = nil
		f.publish("sg-1", set)
		c.ExpectAck(xds.Listeners) // none: all are removed
		c.ExpectNothing()
	})
}
