package node

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/xds"
)

// An order is carried out also if the operator has lost patience, and a restart
// must not undo it: neither a rollback nor, worse, the end of one.
func TestAnOrderOutlivesTheOperatorWhoGaveIt(t *testing.T) {
	n := &Node{cfg: &config.Node{Node: "sg-1", StateDir: t.TempDir()}, log: slog.New(slog.DiscardHandler), envoy: xds.New(xds.Config{})}
	version, err := n.envoy.Publish("sg-1", xds.Set{About: &needs{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range []struct {
		method, query string
		pinned        bool
	}{{"PUT", "?to=" + version, true}, {"DELETE", "", false}} {
		synctest.Test(t, func(t *testing.T) {
			n.events, n.dead = make(chan event), make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			r := httptest.NewRequestWithContext(ctx, order.method, "/xds"+order.query, nil)
			go n.control().ServeHTTP(httptest.NewRecorder(), r)
			e := <-n.events
			cancel()
			synctest.Wait()
			e.apply(n, t0)
			n.picture.Store(&picture{split: split{under: n.loop.pin}})
			close(n.loop.drainShown[0])
			n.loop.drainShown = nil
			synctest.Wait()
			_, err := os.Stat(filepath.Join(n.cfg.StateDir, pinFile))
			if kept := err == nil; kept != order.pinned || (n.loop.pin != nil) != order.pinned {
				t.Errorf("%s: pinned %t, and after a restart %t", order.method, n.loop.pin != nil, kept)
			}
		})
	}
}
