package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

// fakeAgent serves a control socket. A level is done when it has been asked for
// patience times; it hangs if that is negative. It returns the state folder.
func fakeAgent(t *testing.T, patience int64, orders *[]string) string {
	t.Helper()
	var asked, clients atomic.Int64
	level := "none"
	return serveControl(t, func(w http.ResponseWriter, r *http.Request) {
		if patience < 0 {
			<-r.Context().Done()
			return
		}
		if r.URL.Path == "/cut-off" {
			admin.WriteJSON(w, node.CutOff{Prefixes: []string{"a/1", "b/1"}, Pods: []string{"pod-1"}})
			return
		}
		if r.URL.Path == "/clients" {
			if r.Method == http.MethodPut {
				*orders = append(*orders, "closed="+r.URL.Query().Get("closed"))
				clients.Store(2)
			}
			admin.WriteJSON(w, node.ClientsStatus{Closed: true, Connections: int(clients.Add(-1)), Requests: 1})
			return
		}
		if r.Method == http.MethodPut {
			asked.Store(0)
			level = r.URL.Query().Get("level")
			*orders = append(*orders, level)
		}
		st := node.DrainStatus{Level: level, Done: level != "none" && asked.Add(1) > patience, Waiting: []dmsc.NodeID{"sr-1", "sr-2"}}
		admin.WriteJSON(w, st)
	})
}

// serveControl serves a control socket, and returns the state folder that it is in.
func serveControl(t *testing.T, serve http.HandlerFunc) (dir string) {
	t.Helper()
	dir = shortTempDir(t)
	l, err := net.Listen("unix", strings.TrimPrefix(node.ControlSocket(dir), "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: serve}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return dir
}

// drain runs a command line and returns what a person sees and the orders that
// the agent got.
func drain(t *testing.T, patience int64, line string) (seen string, orders []string) {
	t.Helper()
	dir := fakeAgent(t, patience, &orders)
	return strings.ReplaceAll(command(t, strings.ReplaceAll(line, "DIR", dir)), dir, "DIR"), orders
}

func TestDrainWaitsUntilTheNeighboursHaveAcknowledged(t *testing.T) {
	seen, orders := drain(t, 3, "dmsc drain --state-dir DIR")
	want := "cost: waiting for sr-1, sr-2\ndrained: a last resort for transit and for its prefixes, acknowledged by every neighbour\n"
	if seen != want || fmt.Sprint(orders) != "[cost]" {
		t.Errorf("orders %v, seen\n%s", orders, seen)
	}
	seen, orders = drain(t, 0, "dmsc drain --state-dir DIR --remove --grace 1ms")
	want = "drained: a last resort for transit and for its prefixes, acknowledged by every neighbour\n" +
		"clients: 1 connections, 1 requests under way\n" +
		"waiting 1ms for requests on their way\nremoved: no link leads here any more; the node may be stopped\n" +
		"! warning: announced by no other node, and cut off once the links are removed: a/1, b/1\n" +
		"! warning: pods of this node that will reach nobody by it: pod-1\n"
	if seen != want || fmt.Sprint(orders) != "[cost closed=true removed]" {
		t.Errorf("orders %v, seen\n%s", orders, seen)
	}
}

// The links are not removed before the cost is acknowledged.
func TestDrainThatIsNotAcknowledgedInTimeExitsWith4(t *testing.T) {
	seen, orders := drain(t, 1e6, "dmsc drain --state-dir DIR --remove --timeout 200ms")
	want := "cost: waiting for sr-1, sr-2\n" +
		"! warning: announced by no other node, and cut off once the links are removed: a/1, b/1\n" +
		"! warning: pods of this node that will reach nobody by it: pod-1\n" +
		"! dmsc: the drain (cost) is in force but not acknowledged within 200ms by sr-1, sr-2; ask again with a longer --timeout, or dmsc undrain\nexit 4\n"
	if seen != want || fmt.Sprint(orders) != "[cost]" {
		t.Errorf("orders %v, seen\n%s", orders, seen)
	}
}

// Whoever asks again, for a timeout or to be sure, takes no step back.
func TestDrainOfARemovedNodeLeavesItRemoved(t *testing.T) {
	var orders []string
	dir := fakeAgent(t, 0, &orders)
	command(t, "dmsc drain --remove --grace 1ms --state-dir "+dir)
	for _, line := range []string{"dmsc drain --remove --state-dir ", "dmsc drain --state-dir "} {
		if seen := command(t, line+dir); seen != "removed: no link leads here any more; the node may be stopped\n" {
			t.Errorf("seen\n%s", seen)
		}
	}
	if want := "[cost closed=true removed removed removed]"; fmt.Sprint(orders) != want {
		t.Errorf("orders %v, want %s", orders, want)
	}
}

func TestDrainOfAnAgentThatHangsSaysThatNothingIsKnown(t *testing.T) {
	for _, verb := range []string{"drain", "undrain"} {
		seen, _ := drain(t, -1, "dmsc "+verb+" --state-dir DIR --timeout 50ms")
		want := "! dmsc: unix://DIR/agent.sock: context deadline exceeded: the agent runs and has not answered, so what is in force is not known; ask again with a longer --timeout\nexit 4\n"
		if seen != want {
			t.Errorf("seen\n%s", seen)
		}
	}
}

func TestUndrainTakesTheNodeBack(t *testing.T) {
	t.Setenv("DMSC_STATE_DIR", "/nowhere") // the flag counts
	seen, orders := drain(t, 0, "dmsc undrain --state-dir DIR")
	if seen != "back in service\n" || fmt.Sprint(orders) != "[none]" {
		t.Errorf("orders %v, seen\n%s", orders, seen)
	}
}

func TestDrainWithoutAnAgentSaysSo(t *testing.T) {
	t.Setenv("DMSC_STATE_DIR", "")
	if got := command(t, "dmsc drain"); got != "! dmsc: say which node: --state-dir DIR or --config FILE of its agent\nexit 2\n" {
		t.Error(got)
	}
	dir := shortTempDir(t)
	t.Setenv("DMSC_STATE_DIR", dir)
	want := "! dmsc: unix://" + dir + "/agent.sock: cannot be reached: connect: no such file or directory; does the agent run here, with this state folder and as this user?\nexit 3\n"
	if got := command(t, "dmsc undrain"); got != want {
		t.Error(got)
	}
}
