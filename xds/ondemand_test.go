package xds_test

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

func dial(t *testing.T, f *fixture) *xdstest.Client {
	t.Helper()
	return xdstest.Dial(t, xdstest.Serve(t, f.Server), "sg-1")
}

// on demand: the wildcard does not cover b.
func onDemand(names ...string) xds.Set {
	set := simple(names...)
	set.OnDemand = []string{"b"}
	return set
}

func TestAClusterOnDemandIsGivenByNameOnly(t *testing.T) {
	set := onDemand("b", "a") // and the route table uses it
	f := serve(t, xds.Config{})
	c := dial(t, f)
	f.publish("sg-1", set)
	c.Subscribe(xds.Clusters)
	c.ExpectAck(xds.Clusters, "+a")
	c.Subscribe(xds.Endpoints, "a")
	c.ExpectAck(xds.Endpoints, "+a")
	c.Subscribe(xds.Listeners)
	c.ExpectAck(xds.Listeners, "+in")
	c.Subscribe(xds.Routes, "table")
	c.ExpectAck(xds.Routes, "+table") // waits for nothing
	f.event(xds.Acked)

	c.Subscribe(xds.Clusters, "b")
	asked := c.Expect(xds.Clusters, "+b")
	c.Subscribe(xds.Endpoints, "b")
	c.ExpectAck(xds.Endpoints, "+b")
	c.Ack(asked)
	c.ExpectNothing()

	// A change of it goes to who asked; it leaves when it is given up.
	set.Clusters[0] = cluster("b", 1)
	f.publish("sg-1", set)
	changed := c.Expect(xds.Clusters, "+b")
	c.ExpectAck(xds.Endpoints, "+b")
	c.Ack(changed)
	f.event(xds.Acked)
	c.Unsubscribe(xds.Endpoints, "b")
	c.Unsubscribe(xds.Clusters, "b")
	c.ExpectAck(xds.Clusters, "-b")
	c.ExpectNothing()
}

func TestAClientWithoutAWildcardGetsTheClustersItNamesOnly(t *testing.T) {
	f := serve(t, xds.Config{})
	c := dial(t, f)
	f.publish("sg-1", onDemand("a", "b"))
	c.Subscribe(xds.Clusters, "b", "later")
	asked := c.Expect(xds.Clusters, "+b", "-later") // at once: Envoy waits for it
	c.Subscribe(xds.Endpoints, "b")
	c.ExpectAck(xds.Endpoints, "+b")
	c.Ack(asked)
	c.ExpectNothing()
	set := onDemand("a", "b", "later")
	set.OnDemand = append(set.OnDemand, "later")
	f.publish("sg-1", set)
	c.ExpectAck(xds.Clusters, "+later")
}

func TestRoutesDoNotWaitForClustersOnDemand(t *testing.T) {
	f, c := settled(t, xds.Config{})
	f.publish("sg-1", onDemand("b")) // everything moves from a to b
	c.ExpectAck(xds.Routes, "+table")
	c.ExpectAck(xds.Clusters, "-a")
	c.ExpectAck(xds.Endpoints, "-a")
	f.event(xds.Acked)
}

func TestAClusterThatBecomesOnDemandLeavesTheWildcard(t *testing.T) {
	f, c := settled(t, xds.Config{})
	f.publish("sg-1", simple("a", "b"))
	c.ExpectAck(xds.Clusters, "+b")
	c.Subscribe(xds.Endpoints, "b")
	c.ExpectAck(xds.Endpoints, "+b")
	f.event(xds.Acked)
	before := f.status("sg-1").Wanted
	if after := f.publish("sg-1", onDemand("a", "b")); after == before {
		t.Error("the version does not tell them apart")
	}
	c.ExpectAck(xds.Clusters, "-b")
	f.event(xds.Acked)
	set := onDemand("a", "b")
	set.Clusters = []*clusterv3.Cluster{set.Clusters[0]}
	if _, err := f.Publish("sg-1", set); err == nil {
		t.Error("a cluster on demand that is not in the set is not refused")
	}
}
