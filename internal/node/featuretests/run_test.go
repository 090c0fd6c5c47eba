package featuretests

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

func TestAnAgentLeavesNothingRunning(t *testing.T) {
	n := prepare(t)
	a := n.node("sr-9")
	before := goleak.IgnoreCurrent()
	a.start()
	n.until("it runs", func() error { return when(a.Status().LSDB.Synced && !a.Status().SPAAway, "it does not") })
	if d := a.stop(); d > time.Second {
		t.Errorf("Run ended after %v", d)
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"xds", "health"} {
		if _, err := net.Dial("unix", filepath.Join(a.cfg.StateDir, path)); err == nil {
			t.Errorf("%s still answers", path)
		}
	}
}

// What is wrong with listeners and the state file is said before anything runs,
// in a sentence with the next step, and nothing is kept.
func TestWhatKeepsAnAgentFromStartingIsSaidClearly(t *testing.T) {
	n := newNetwork(t, line1)
	running := n.nodes["sg-1"].cfg
	for name, c := range map[string]struct {
		change func(*config.Node)
		want   []string
	}{
		"a port in use": {
			func(c *config.Node) { c.Listen.API = running.Listen.API },
			[]string{"listen.api: ", "address already in use", "is another process using " + running.Listen.API + "? choose another port or :0"},
		},
		"a socket in use": {
			func(c *config.Node) { c.Listen.XDS = running.Listen.XDS },
			[]string{"listen.xds: ", "another process answers there; is this node already running?"},
		},
		"a state file in use": {
			func(c *config.Node) { c.StateDir = running.StateDir },
			[]string{"open state file " + running.StateDir, "another process holds it; is this node already running?"},
		},
		"a record that cannot be written": {
			func(c *config.Node) { c.RecordXDS = filepath.Join(n.dir, "no", "such", "folder") },
			[]string{"record_xds: ", "no such file or directory"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			other := *n.node("sg-9").cfg
			c.change(&other)
			_, err := node.New(&other, n.log)
			if err == nil {
				t.Fatal("it starts")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the error is %q, want %q in it", err, w)
				}
			}
		})
	}
	// Nothing of the failed starts is held: the same agent starts now.
	n.node("sg-9").start()
}
