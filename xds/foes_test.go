package xds_test

import (
	"testing"
	"testing/synctest"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// A second client under the node.id of an Envoy, by mistake or out of malice.

// contested is a settled client and a second one under its node.id, that has
// refused the first thing it was sent.
func contested(t *testing.T) (f *fixture, c, foe *xdstest.Client) {
	t.Helper()
	f, c = settled(t, xds.Config{})
	foe = dial(t, f)
	foe.Subscribe(xds.Clusters)
	foe.Nack(foe.Expect(xds.Clusters, "+a"), "a: no")
	synctest.Wait()
	return f, c, foe
}

func silent(t *testing.T, f *fixture) {
	t.Helper()
	synctest.Wait()
	select {
	case e := <-f.events:
		t.Errorf("event %s %+v", e.Kind, e.Nack)
	default:
	}
}

func TestRefusalsOfASecondClientAreNotTheNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, foe := contested(t)
		silent(t, f)
		set := simple("a")
		set.Clusters[0] = cluster("a", 1)
		version := f.publish("sg-1", set)
		foe.Nack(foe.Expect(xds.Clusters, "+a"), "a: no") // before the other has answered
		silent(t, f)
		c.ExpectAck(xds.Clusters, "+a")
		c.ExpectAck(xds.Endpoints, "+a")
		if e := f.event(xds.Acked); e.Version != version {
			t.Errorf("acked %s", e.Version)
		}
		foe.Close()
		f.event(xds.Disconnected)
		silent(t, f)
	})
}

func TestStatusIsThatOfTheClientThatHasAcceptedTheMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, _ := contested(t)
		if st := f.status("sg-1"); !st.Converged || st.Phase != xds.PhaseLive || st.LastNack != nil || st.Streams != 2 {
			t.Errorf("%+v", st)
		}
	})
}

func TestWhatAnotherStreamRunsIsNotRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, first := settled(t, xds.Config{}) // it speaks for the node
		second := dial(t, f)
		second.Subscribe(xds.Clusters)
		second.ExpectAck(xds.Clusters, "+a")
		set := simple("a")
		set.Clusters[0] = cluster("a", 1)
		f.publish("sg-1", set)
		second.ExpectAck(xds.Clusters, "+a")
		synctest.Wait()
		refused := first.Expect(xds.Clusters, "+a")
		first.ExpectAck(xds.Endpoints, "+a")
		first.Nack(refused, "a: no")
		silent(t, f)
	})
}

// An Envoy whose last stream has not ended yet is heard when it has.
func TestARefusalIsHeardWhenItsClientIsTheOneLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := contested(t)
		silent(t, f)
		c.Close()
		var nack *xds.Nack
		for range 2 { // of different streams, in any order
			if e := <-f.events; e.Kind == xds.Nacked {
				nack = e.Nack
			}
		}
		if nack == nil || nack.Message != "a: no" {
			t.Errorf("nack %+v", nack)
		}
		silent(t, f)
		if st := f.status("sg-1"); st.Converged || st.Phase != xds.PhaseRejected {
			t.Errorf("%+v", st)
		}
	})
}
