package node

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/serve"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
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

// CutOff is what would be reached by nobody, or reach nobody, without the links
// of this node: the answer to GET /cut-off on the control socket.
type CutOff struct {
	// Prefixes that are announced here and at no other node that can be reached, sorted.
	Prefixes []string `json:"prefixes"`
	// Pods that announce something here, sorted.
	Pods []string `json:"pods"`
}

func (p *picture) cutOff() CutOff {
	alone, elsewhere := map[dmsc.ServicePrefix]bool{}, map[dmsc.NodeID]bool{}
	for e := range entries(p.rib) {
		if e.Kind == rib.Node && !e.Local {
			elsewhere[e.Egress[0]] = true // it can be reached
		}
	}
	for l := range p.view.Records.All() {
		if c, ok := l.Content.(*linkstate.PrefixLSA); ok && !l.Tombstone && l.Origin == p.view.Node {
			for _, a := range c.Prefixes {
				alone[a.Prefix] = true
			}
		}
	}
	for l := range p.view.Records.All() {
		if c, ok := l.Content.(*linkstate.PrefixLSA); ok && !l.Tombstone && elsewhere[l.Origin] {
			for _, a := range c.Prefixes {
				delete(alone, a.Prefix)
			}
		}
	}
	out := CutOff{Prefixes: []string{}, Pods: []string{}}
	for prefix := range alone {
		out.Prefixes = append(out.Prefixes, prefix.String())
	}
	for _, pod := range p.pods {
		out.Pods = append(out.Pods, pod.Pod)
	}
	slices.Sort(out.Prefixes)
	slices.Sort(out.Pods)
	out.Pods = slices.Compact(out.Pods)
	return out
}

// control is what the socket serves.
func (n *Node) control() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, about func(*picture) any) {
		p := n.picture.Load()
		if p == nil {
			http.Error(w, "the node is starting", http.StatusServiceUnavailable)
			return
		}
		admin.WriteJSON(w, about(p))
	}
	n.controlXDS(mux)
	n.controlClients(mux)
	status := func(w http.ResponseWriter) { answer(w, func(p *picture) any { return p.drain() }) }
	mux.HandleFunc("GET /cut-off", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, func(p *picture) any { return p.cutOff() })
	})
	mux.HandleFunc("GET /drain", func(w http.ResponseWriter, _ *http.Request) { status(w) })
	mux.HandleFunc("PUT /drain", func(w http.ResponseWriter, r *http.Request) {
		level, err := linkstate.ParseDrain(r.URL.Query().Get("level"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		shown := make(chan struct{})
		if n.carryOut(w, r, drainSet{level, shown}, shown) {
			status(w)
		}
	})
	return mux
}

// carryOut hands an order to the loop, and reports whether readers see it. If
// not, it has answered.
func (n *Node) carryOut(w http.ResponseWriter, r *http.Request, order event, shown <-chan struct{}) bool {
	if err := n.post(r.Context(), order); err != nil {
		http.Error(w, "the node is stopping", http.StatusServiceUnavailable)
		return false
	}
	select {
	case <-shown:
		return true
	case <-n.dead:
		http.Error(w, "the node is stopping", http.StatusServiceUnavailable)
	case <-r.Context().Done():
	}
	return false
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
	n.loop.closed = n.loop.closed && e.level != linkstate.DrainNone
	n.loop.drainShown = append(n.loop.drainShown, e.shown)
}
