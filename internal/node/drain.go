package node

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/serve"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Taking a node out of service is asked for on a socket in its state folder,
// which only whoever runs the agent may open, and never over the network.

// ControlSocket is where the agent with a state folder takes orders, an address
// for admin.Client.
func ControlSocket(stateDir string) string {
	return "unix://" + filepath.Join(stateDir, "agent.sock")
}

// listenControl opens the control socket for the user of the agent alone.
func (n *Node) listenControl() (err error) {
	address := ControlSocket(n.cfg.StateDir)
	if n.listeners.control, err = serve.Listen(address); err != nil {
		return err
	}
	return os.Chmod(n.listeners.control.Addr().String(), 0o600)
}

// DrainStatus is how far a node has been taken out of service, and of the answer
// to GET and PUT /drain?level= on the control socket.
type DrainStatus struct {
	Level string `json:"level"` // none, cost or removed
	// Done: every neighbour has acknowledged the level.
	Done bool `json:"done"`
	// Waiting are the neighbours that have yet to acknowledge something.
	Waiting []dmsc.NodeID `json:"waiting"`
}

func (p *picture) drain() DrainStatus {
	out := DrainStatus{Level: p.view.Drain.String(), Done: p.view.Drained, Waiting: []dmsc.NodeID{}}
	for _, a := range p.view.Adjacencies {
		if a.Pending > 0 && !out.Done && p.view.Drain != linkstate.DrainNone {
			out.Waiting = append(out.Waiting, a.Remote)
		}
	}
	return out
}

// control is what the socket serves.
func (n *Node) control() http.Handler {
	mux := http.NewServeMux()
	status := func(w http.ResponseWriter) {
		p := n.picture.Load()
		if p == nil {
			http.Error(w, "the node is starting", http.StatusServiceUnavailable)
			return
		}
		admin.WriteJSON(w, p.drain())
	}
	mux.HandleFunc("GET /drain", func(w http.ResponseWriter, _ *http.Request) { status(w) })
	mux.HandleFunc("PUT /drain", func(w http.ResponseWriter, r *http.Request) {
		level, err := linkstate.ParseDrain(r.URL.Query().Get("level"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		shown := make(chan struct{})
		if err := n.post(r.Context(), drainSet{level, shown}); err != nil {
			http.Error(w, "the node is stopping", http.StatusServiceUnavailable)
			return
		}
		select {
		case <-shown:
			status(w)
		case <-n.dead:
			http.Error(w, "the node is stopping", http.StatusServiceUnavailable)
		case <-r.Context().Done():
		}
	})
	return mux
}

func (n *Node) serveControl(ctx context.Context) error {
	return admin.ServeHandler(ctx, n.listeners.control, n.control())
}

// drainSet: an operator takes the node out of service, or back into it. It
// outlives a restart of the agent, for which a node is drained at times.
type drainSet struct {
	level linkstate.Drain
	shown chan<- struct{} // closed when readers see it
}

func (e drainSet) apply(n *Node, now time.Time) {
	if e.level != n.loop.drain {
		n.log.Warn("drain", "level", e.level.String(), "was", n.loop.drain.String())
		n.loop.drain, n.loop.dirty = e.level, true
		n.instance.Step(now, linkstate.SetDrain{Level: e.level})
	}
	n.loop.drainShown = append(n.loop.drainShown, e.shown)
}
