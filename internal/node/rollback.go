package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/xds"
)

// Going back to an earlier configuration is asked for on the control socket, as
// a drain is. The pin outlives the agent (pinfile.go), the rest of the history
// does not.

// GenerationStatus is one configuration of a node's history: an item of the
// answer to GET /xds on the control socket.
type GenerationStatus struct {
	Version string    `json:"version"`
	Latest  string    `json:"latest"` // the same with the newest endpoints
	At      time.Time `json:"at"`     // when it was made first
	// LastAt is when it became the newest last, and Times how often it did: that
	// of a link that flaps comes back. AgeSec is that of LastAt.
	LastAt time.Time `json:"last_at"`
	Times  int       `json:"times"`
	AgeSec float64   `json:"age_seconds"`
	// Wanted: the newest of the node. Served: what Envoy is given. Acked: what Envoy
	// has accepted as a whole. Pinned: dmsc xds rollback has gone back to it.
	Wanted  bool            `json:"wanted"`
	Served  bool            `json:"served"`
	Acked   bool            `json:"acked"`
	Pinned  bool            `json:"pinned"`
	Changes []ChangesStatus `json:"changes"` // to the one before; only types that changed
}

// ChangesStatus counts what changed in one type of resources.
type ChangesStatus struct {
	Type    string   `json:"type"`
	Added   int      `json:"added"`
	Changed int      `json:"changed"`
	Removed int      `json:"removed"`
	Names   []string `json:"names"` // the first, as "+added", "~changed", "-removed"
}

// HistoryStatus is the answer to GET /xds on the control socket, and to PUT
// /xds?to=&reason= and DELETE /xds, which pin and resume.
type HistoryStatus struct {
	Node   string     `json:"node"`
	Pinned *PinStatus `json:"pinned,omitempty"`
	// Generations are newest first.
	Generations []GenerationStatus `json:"generations"`
	// Given is the version of what Envoy is given: the generation that is served
	// with the newest endpoints. Refused: Envoy has accepted of it what it ever will.
	// Refusals are what Envoy has refused, perhaps as part of another version, and
	// that waits for a better one.
	Given    string          `json:"given"`
	Refused  bool            `json:"refused"`
	Refusals []RefusalStatus `json:"refusals"`
	// Warning is about an order that was carried out.
	Warning string `json:"warning,omitempty"`
}

// MaxReason bounds the reason of a rollback, in bytes.
const MaxReason = 256

// pinOrdered: an operator goes back to a configuration, or resumes.
type pinOrdered struct {
	to, reason string
	resume     bool
	done       chan<- error    // of capacity 1
	shown      chan<- struct{} // closed when readers see it
}

func (e pinOrdered) apply(n *Node, _ time.Time) {
	id := string(n.cfg.Node)
	var err error
	if e.resume {
		_, err = n.envoy.Resume(id)
	} else {
		_, err = n.envoy.Rollback(id, e.to)
	}
	if err == nil {
		n.loop.pin, n.loop.dirty = nil, true
		if set, pinned := n.envoy.Pin(id); pinned {
			n.loop.pin = &pin{version: set.Version, reason: e.reason, needs: set.About.(*needs)}
		}
	}
	e.done <- err
	n.loop.drainShown = append(n.loop.drainShown, e.shown)
}

// history is what can be gone back to.
func (n *Node) history(now time.Time) (HistoryStatus, error) {
	id := string(n.cfg.Node)
	out := HistoryStatus{Node: id, Generations: []GenerationStatus{}, Refusals: []RefusalStatus{}}
	list, err := n.envoy.History(id)
	if errors.Is(err, xds.ErrUnknownNode) {
		return out, nil // it starts
	} else if err != nil {
		return out, err
	}
	st, _ := n.envoy.Status(id)
	out.Given, out.Refused = st.Wanted, st.Phase == xds.PhaseRejected
	if p := n.picture.Load(); p != nil {
		out.Pinned = xdsStatus(st, p.split, now).Pinned
		out.Refusals = parked(p.refusals, st, now)
	}
	published := st.Pinned == nil || st.Pinned.Newest != "" // in this life
	for i, p := range list {
		g := GenerationStatus{
			Version: p.Version, Latest: p.Latest, At: p.Time.UTC(), LastAt: p.Last.UTC(), Times: p.Times, AgeSec: now.Sub(p.Last).Seconds(), Wanted: i == 0 && published,
			Served: i == served(list, st.Wanted), Acked: i == served(list, st.Acked), Pinned: p.Pinned, Changes: []ChangesStatus{},
		}
		if st.Pinned != nil { // with the newest endpoints it is a version of its own
			g.Served, g.Acked = p.Pinned, p.Pinned && st.Converged || g.Acked && !st.Converged
		}
		for t, c := range p.Changes {
			if c.Added+c.Changed+c.Removed > 0 {
				g.Changes = append(g.Changes, ChangesStatus{Type: xds.Type(t).String(), Added: c.Added, Changed: c.Changed, Removed: c.Removed, Names: some(c.Names)})
			}
		}
		out.Generations = append(out.Generations, g)
	}
	return out, nil
}

// served is the place in a history of the newest set of that version, -1 for none.
func served(list []xds.Published, version string) int {
	return slices.IndexFunc(list, func(p xds.Published) bool { return p.Version == version || p.Latest == version })
}

// controlXDS serves the history on the control socket.
func (n *Node) controlXDS(mux *http.ServeMux) {
	answer := func(w http.ResponseWriter, warning string) {
		h, err := n.history(time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		h.Warning = warning
		admin.WriteJSON(w, h)
	}
	mux.HandleFunc("GET /xds", func(w http.ResponseWriter, _ *http.Request) { answer(w, "") })
	mux.HandleFunc("PUT /xds", func(w http.ResponseWriter, r *http.Request) {
		to, reason := r.URL.Query().Get("to"), r.URL.Query().Get("reason")
		if len(reason) > MaxReason {
			http.Error(w, fmt.Sprintf("the reason has %d bytes, at most %d are kept", len(reason), MaxReason), http.StatusBadRequest)
			return
		}
		n.pinning.Lock()
		defer n.pinning.Unlock()
		if n.order(w, r, pinOrdered{to: to, reason: shortened(reason, MaxReason)}) {
			answer(w, n.keepPin())
		}
	})
	mux.HandleFunc("DELETE /xds", func(w http.ResponseWriter, r *http.Request) {
		n.pinning.Lock()
		defer n.pinning.Unlock()
		if n.order(w, r, pinOrdered{resume: true}) {
			answer(w, n.keepPin())
		}
	})
}

// order has the loop go back or resume, and reports whether that is done. If not,
// it has answered.
func (n *Node) order(w http.ResponseWriter, r *http.Request, o pinOrdered) bool {
	done, shown := make(chan error, 1), make(chan struct{})
	o.done, o.shown = done, shown
	// It is carried out also if who gave it has gone, and must be kept then, too.
	if !n.carryOut(w, r.WithContext(context.WithoutCancel(r.Context())), o, shown) {
		return false
	}
	if err := <-done; err != nil {
		http.Error(w, fmt.Sprintf("%v; dmsc xds history lists what there is", err), http.StatusBadRequest)
		return false
	}
	return true
}

// keepPin has what is pinned now outlive the agent, and warns if it does not. It
// needs n.pinning.
func (n *Node) keepPin() (warning string) {
	set, pinned := n.envoy.Pin(string(n.cfg.Node))
	if !pinned {
		n.log.Warn("envoy is given the newest configuration again")
		if err := removePin(n.cfg.StateDir); err != nil {
			n.log.Error("a restart of the agent will pin envoy again", "err", err)
			return fmt.Sprintf("a restart of the agent will pin its Envoy again: %v", err)
		}
		return ""
	}
	p := n.picture.Load().split.under
	n.log.Warn("envoy is pinned to an earlier configuration until dmsc xds resume; newer ones wait", "version", p.version, "reason", p.reason)
	if err := writePin(n.cfg, p, set); err != nil {
		n.log.Error("a restart of the agent will end the pin", "err", err)
		return fmt.Sprintf("a restart of the agent will end it: %v", err)
	}
	return ""
}
