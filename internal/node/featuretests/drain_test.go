package featuretests

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

// order sets the drain of the agent as dmsc drain does, and waits until it is
// done.
func (a *agent) order(level string) {
	a.n.t.Helper()
	control := admin.Client{Address: node.ControlSocket(a.cfg.StateDir)}
	var st node.DrainStatus
	if err := control.Do(a.n.t.Context(), http.MethodPut, "/drain", url.Values{"level": {level}}, &st); err != nil {
		a.n.t.Fatal(err)
	}
	if st.Level != level {
		a.n.t.Fatalf("after the order to drain to %s the level is %s", level, st.Level)
	}
	a.drained(level)
}

func (a *agent) drained(level string) {
	a.n.t.Helper()
	a.n.until(string(a.id)+" is drained to "+level, func() error {
		st := a.Status().Drain
		return when(st.Level == level && st.Done == (level != "none"), "it is %+v", st)
	})
}

// design §3, Transit; design §4: drain raises the cost first, then removes.
func TestADrainedNodeIsALastResortAlsoAfterARestart(t *testing.T) {
	n := newNetwork(t, "sg-1 sr-1", "sg-1 sr-2", "sg-2 sr-1", "sg-2 sr-2")
	n.pod("pod-1", "sg-2", service("a/1"))
	n.routed("sg-1", "a/1", "sr-1 sr-2")
	sr1 := n.nodes["sr-1"]

	sr1.order("cost")
	n.routed("sg-1", "a/1", "sr-2")
	n.routed("sg-1", "dmsc/node/sr-1", "sr-1")

	sr1.stop()
	sr1.start()
	sr1.drained("cost")
	n.converged()
	n.routed("sg-1", "a/1", "sr-2")

	sr1.order("removed")
	n.routed("sg-1", "dmsc/node/sr-1", "")
	n.routed("sg-1", "a/1", "sr-2")

	sr1.order("none")
	n.routed("sg-1", "a/1", "sr-1 sr-2")
	sr1.stop()
	sr1.start()
	n.converged()
	sr1.drained("none")
}

// Whoever may not open the socket takes no node out of service, and nothing on
// the network does.
func TestADrainIsOrderedByTheUserOfTheAgentAlone(t *testing.T) {
	n := newNetwork(t, line1)
	a := n.nodes["sg-1"]
	info, err := os.Stat(filepath.Join(a.cfg.StateDir, "agent.sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the control socket has the mode %v, error %v", info.Mode(), err)
	}
	var st node.DrainStatus
	health := admin.Client{Address: a.cfg.Listen.Health}
	if err := health.Do(t.Context(), http.MethodPut, "/drain", url.Values{"level": {"cost"}}, &st); !errors.Is(err, admin.ErrNoPage) {
		t.Errorf("the health listener answers %v, %+v", err, st)
	}
	control := admin.Client{Address: node.ControlSocket(a.cfg.StateDir)}
	var refused *admin.RefusedError
	if err := control.Do(t.Context(), http.MethodPut, "/drain", url.Values{"level": {"all"}}, &st); !errors.As(err, &refused) || refused.Status != http.StatusBadRequest {
		t.Errorf("a level that does not exist is answered %v", err)
	}
	if st := a.Status().Drain; st.Level != "none" {
		t.Errorf("it is drained: %+v", st)
	}
}

// What a removal cuts off is known before it: what nobody else announces.
func TestANodeKnowsWhatItsRemovalCutsOff(t *testing.T) {
	n := newNetwork(t, "sg-1 sr-1", "sg-2 sr-1")
	n.pod("pod-1", "sg-1", service("a/1"), service("b/1"))
	n.routed("sg-2", "a/1", "sr-1")
	is := func(id dmsc.NodeID, prefixes, pods string) {
		t.Helper()
		n.until("what is cut off with "+string(id), func() error {
			var c node.CutOff
			control := admin.Client{Address: node.ControlSocket(n.nodes[id].cfg.StateDir)}
			if err := control.Do(t.Context(), http.MethodGet, "/cut-off", nil, &c); err != nil {
				return err
			}
			return when(fmt.Sprint(c.Prefixes) == prefixes && fmt.Sprint(c.Pods) == pods, "it is %+v", c)
		})
	}
	is("sg-1", "[a/1 b/1]", "[pod-1]")
	is("sr-1", "[]", "[]")
	n.pod("pod-2", "sg-2", service("a/1"))
	is("sg-1", "[b/1]", "[pod-1]")
	is("sg-2", "[]", "[pod-2]")
}
