package xds_test

import (
	"slices"
	"testing"

	"github.com/dmsc-mesh/dmsc/xds"
)

func TestRefusedVersionIsParkedUntilItsContentChanges(t *testing.T) {
	f, c := settled(t, xds.Config{})
	running := f.status("sg-1").Types[xds.Clusters].Acked
	bad := simple("a")
	bad.Clusters[0] = cluster("a", 1)
	refused := f.publish("sg-1", bad)
	changed := c.Expect(xds.Clusters, "+a")
	c.ExpectAck(xds.Endpoints, "+a") // on the heels of the cluster, as ever
	c.Nack(changed, "Error adding/updating cluster(s) a: no good")

	e := f.event(xds.Nacked)
	if e.Nack.Type != xds.Clusters || !slices.Equal(e.Nack.Resources, []string{"a"}) || e.Nack.Version != refused ||
		e.Nack.Running["a"] == "" || e.Nack.Message != "Error adding/updating cluster(s) a: no good" {
		t.Errorf("nack %+v", e.Nack)
	}
	c.ExpectNothing()
	st := f.status("sg-1")
	if st.Phase != xds.PhaseRejected || st.Converged || !slices.Equal(st.Types[xds.Clusters].Rejected, []string{"a"}) ||
		st.Types[xds.Clusters].Acked != running {
		t.Errorf("status %+v", st)
	}

	// A change elsewhere does not bring it back.
	bad.Endpoints[0] = endpoints("a", 9090)
	f.publish("sg-1", bad)
	c.ExpectAck(xds.Endpoints, "+a")
	c.ExpectNothing()

	good := simple("a")
	good.Clusters[0], good.Endpoints[0] = cluster("a", 2), bad.Endpoints[0]
	f.publish("sg-1", good)
	c.ExpectAck(xds.Clusters, "+a")
	c.ExpectAck(xds.Endpoints, "+a")
	f.event(xds.Acked)
	if st := f.status("sg-1"); !st.Converged || st.Types[xds.Clusters].Rejected != nil || st.LastNack == nil {
		t.Errorf("status after healing %+v", st)
	}
}

func TestGoingBackToWhatRunsHealsWithoutASend(t *testing.T) {
	f, c := settled(t, xds.Config{})
	bad := simple("a")
	bad.Clusters[0] = cluster("a", 1)
	f.publish("sg-1", bad)
	changed := c.Expect(xds.Clusters, "+a")
	c.ExpectAck(xds.Endpoints, "+a")
	c.Nack(changed, "no")
	f.event(xds.Nacked)
	f.publish("sg-1", simple("a"))
	c.ExpectNothing()
	if st := f.status("sg-1"); !st.Converged {
		t.Errorf("status %+v", st)
	}
}

// Envoy refuses a response, but names what is wrong in it. What it does not
// name is sent once more, alone.
func TestInnocentResourcesOfARefusedResponseAreSentAgain(t *testing.T) {
	f, c := settled(t, xds.Config{})
	f.publish("sg-1", simple("a", "b", "b/1"))
	c.Nack(c.Expect(xds.Clusters, "+b", "+b/1"), "Error adding/updating cluster(s) b/1: no good")
	if e := f.event(xds.Nacked); !slices.Equal(e.Nack.Resources, []string{"b/1"}) || len(e.Nack.Running) != 0 {
		t.Errorf("nack %+v", e.Nack)
	}
	c.ExpectAck(xds.Clusters, "+b")
	c.Subscribe(xds.Endpoints, "b")
	c.ExpectAck(xds.Endpoints, "+b")
	c.ExpectNothing()
}

func TestARefusalWithoutNamesParksTheWholeResponse(t *testing.T) {
	f, c := settled(t, xds.Config{})
	f.publish("sg-1", simple("a", "b", "c"))
	c.Nack(c.Expect(xds.Clusters, "+b", "+c"), "something is wrong")
	if e := f.event(xds.Nacked); !slices.Equal(e.Nack.Resources, []string{"b", "c"}) {
		t.Errorf("nack %+v", e.Nack)
	}
	c.ExpectNothing()
}

func TestRoutesToARefusedClusterStayAsTheyWere(t *testing.T) {
	f, c := settled(t, xds.Config{})
	f.publish("sg-1", simple("b")) // moves everything from a to b
	c.Nack(c.Expect(xds.Clusters, "+b"), "cluster b is bad")
	c.ExpectNothing() // the table still says a, and a is still there
	if st := f.status("sg-1"); st.Phase != xds.PhaseRejected {
		t.Errorf("phase %s", st.Phase)
	}
	good := simple("b")
	good.Clusters[0] = cluster("b", 1)
	version := f.publish("sg-1", good)
	c.ExpectAck(xds.Clusters, "+b")
	c.Subscribe(xds.Endpoints, "b")
	c.ExpectAck(xds.Endpoints, "+b")
	c.ExpectAck(xds.Routes, "+table")
	c.ExpectAck(xds.Clusters, "-a")
	c.ExpectAck(xds.Endpoints, "-a")
	f.event(xds.Nacked)
	if e := f.event(xds.Acked); e.Version != version {
		t.Errorf("acked %+v", e)
	}
}

func TestNothingARefusedRouteTableStillUsesIsRemoved(t *testing.T) {
	f, c := settled(t, xds.Config{})
	f.publish("sg-1", simple("b"))
	c.ExpectAck(xds.Clusters, "+b")
	c.Subscribe(xds.Endpoints, "b")
	c.ExpectAck(xds.Endpoints, "+b")
	c.Nack(c.Expect(xds.Routes, "+table"), "table: bad route")
	c.ExpectNothing() // a is kept: the old table runs
}

func TestANackCannotDriveALoop(t *testing.T) {
	f, c := settled(t, xds.Config{})
	f.publish("sg-1", simple(append(names("x", 8), "a")...))
	for responses := 1; ; responses++ {
		r := c.Recv()
		c.Nack(r, "bad: "+r.Names()[0])
		if got := f.event(xds.Nacked).Nack.Resources; len(got) != 1 {
			t.Fatalf("parked %v", got)
		}
		if responses == 8 {
			break
		}
	}
	c.ExpectNothing()
}
