package xds_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

const taken = "Error adding/updating listener(s) in: cannot bind '127.0.0.1:15002': Address already in use"

// Whoever frees the port need not restart anything.
func TestARefusedListenerIsSentAgainLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{})
		moved := simple("a")
		moved.Listeners[0] = listener("in", "table", 15002)
		version := f.publish("sg-1", moved)
		refused := c.Expect(xds.Listeners, "+in")
		start := time.Now()
		for _, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
			c.Nack(refused, taken)
			f.event(xds.Nacked)
			if st := f.status("sg-1"); st.Phase != xds.PhaseRejected {
				t.Errorf("phase %s", st.Phase)
			}
			begun := time.Now()
			time.Sleep(want*time.Second - time.Millisecond)
			c.ExpectNothing()
			refused = c.Expect(xds.Listeners, "+in")
			if waited := time.Since(begun); waited != want*time.Second {
				t.Errorf("after %v it is sent again after %v, want %v", time.Since(start), waited, want*time.Second)
			}
		}
		c.Ack(refused)
		if e := f.event(xds.Acked); e.Version != version {
			t.Errorf("acked %+v", e)
		}
		// The next refusal is another matter.
		moved.Listeners[0] = listener("in", "table", 15003)
		f.publish("sg-1", moved)
		c.Nack(c.Expect(xds.Listeners, "+in"), taken)
		f.event(xds.Nacked)
		begun := time.Now()
		c.Expect(xds.Listeners, "+in")
		if waited := time.Since(begun); waited != 5*time.Second {
			t.Errorf("a new refusal waits %v", waited)
		}
	})
}

// What is refused for its content would be refused again.
func TestOtherRefusedResourcesStayParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{})
		bad := simple("a")
		bad.Clusters[0] = cluster("a", 1)
		f.publish("sg-1", bad)
		changed := c.Expect(xds.Clusters, "+a")
		c.ExpectAck(xds.Endpoints, "+a")
		c.Nack(changed, "a: no good")
		f.event(xds.Nacked)
		time.Sleep(time.Hour)
		c.ExpectNothing()
	})
}

// The agent restarts while the topology changes: the cluster that its Envoy has
// used until a moment ago is not taken away from under requests that it retries.
func TestClustersOfAnEarlierLifeStayForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, before := settled(t, xds.Config{})
		before.Close()

		f := serve(t, xds.Config{KeepInherited: 5 * time.Second})
		c := xdstest.Dial(t, xdstest.Serve(t, f.Server), "sg-1")
		c.Resume(xds.Clusters, before.Held[xds.Clusters])
		c.Resume(xds.Endpoints, before.Held[xds.Endpoints], "a")
		c.Resume(xds.Listeners, before.Held[xds.Listeners])
		c.Resume(xds.Routes, before.Held[xds.Routes], "table")
		time.Sleep(time.Minute)
		if r := c.TryRecv(); r != nil {
			t.Errorf("before the first publication it is sent %v", r)
		}
		start := time.Now()
		version := f.publish("sg-1", simple("b"))
		c.ExpectAck(xds.Clusters, "+b")
		c.Subscribe(xds.Endpoints, "b")
		c.ExpectAck(xds.Endpoints, "+b")
		c.ExpectAck(xds.Routes, "+table")
		if e := f.event(xds.Acked); e.Version != version || time.Since(start) != 0 {
			t.Errorf("acked %+v after %v; nobody waits for what is kept", e, time.Since(start))
		}
		time.Sleep(5*time.Second - time.Millisecond)
		c.ExpectNothing()
		c.ExpectAck(xds.Clusters, "-a")
		c.ExpectAck(xds.Endpoints, "-a")
		if waited := time.Since(start); waited != 5*time.Second {
			t.Errorf("it is removed after %v", waited)
		}
		synctest.Wait()
		if st := f.status("sg-1"); !st.Converged {
			t.Errorf("status %+v", st)
		}
	})
}

func TestAnInheritedClusterThatIsWantedAgainIsAnOrdinaryOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, before := settled(t, xds.Config{})
		before.Close()

		f := serve(t, xds.Config{KeepInherited: 5 * time.Second})
		c := xdstest.Dial(t, xdstest.Serve(t, f.Server), "sg-1")
		f.publish("sg-1", simple("b"))
		c.Resume(xds.Clusters, before.Held[xds.Clusters])
		c.ExpectAck(xds.Clusters, "+b")
		f.publish("sg-1", simple("b", "a"))
		c.ExpectNothing() // the very version that it has
		f.publish("sg-1", simple("b"))
		c.Subscribe(xds.Endpoints, "b")
		c.ExpectAck(xds.Endpoints, "+b")
		c.ExpectAck(xds.Clusters, "-a")
	})
}

// A real Envoy refuses a port that is taken, goes on with what it has, and takes
// the listener when the port is free.
func TestRealEnvoyTakesAListenerWhenItsPortIsFree(t *testing.T) {
	dir, err := os.MkdirTemp("", "xds") // short: a socket's path has 108 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	to := backend(t)
	port := freePort(t)
	holder, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	set := func(port int) xds.Set {
		s := simple("blue")
		s.Endpoints[0] = endpoints("blue", to)
		s.Listeners[0] = listener("in", "table", port)
		s.Listeners[0].EnableReusePort = wrapperspb.Bool(false)
		return s
	}
	f := serve(t, xds.Config{RetryListener: 50 * time.Millisecond})
	stop := listen(t, f.Server, filepath.Join(dir, "xds.sock"))
	defer stop()
	first := f.publish("sg-1", set(port))
	startEnvoy(t, dir, translator.Source{})
	f.expect(xds.Acked, first)
	load := startLoad(t, port)

	second := f.publish("sg-1", set(holder.Addr().(*net.TCPAddr).Port))
	for range 3 {
		nack := f.event(xds.Nacked).Nack
		if fmt.Sprint(nack.Resources) != "[in]" || !strings.Contains(nack.Message, "Address already in use") || nack.Running["in"] == "" {
			t.Errorf("nack %+v", nack)
		}
	}
	load.more(100) // by the old port
	load.stop()
	holder.Close()
	for {
		if e := <-f.events; e.Kind == xds.Acked {
			if e.Version != second {
				t.Errorf("acked %s, want %s", e.Version, second)
			}
			break
		}
	}
	if failed := load.failed.Load(); failed != 0 {
		t.Errorf("%d requests failed", failed)
	}
}
