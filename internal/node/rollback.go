package node

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/xds"
)

// Going back to an earlier configuration is asked for on the control socket, as
// a drain is. The pin does not outlive the agent, as the history does not.

// GenerationStatus is one configuration of a node's history: an item of the
// answer to GET /xds on the control socket.
type GenerationStatus struct {
	Version string    `json:"version"`
	Latest  string    `json:"latest"` // the same with the newest endpoints
	At      time.Time `json:"at"`
	AgeSec  float64   `json:"age_seconds"`
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
}

func (n *Node) pinReason() string {
	if p := n.pinnedFor.Load(); p != nil {
		return p.Reason
	}
	return ""
}

// pinChanged: Envoy was pinned to an earlier configuration, or is no longer.
type pinChanged struct{}

func (pinChanged) apply(n *Node, _ time.Time) { n.loop.dirty = true }

// history is what can be gone back to.
func (n *Node) history(now time.Time) (HistoryStatus, error) {
	id := string(n.cfg.Node)
	out := HistoryStatus{Node: id, Generations: []GenerationStatus{}}
	list, err := n.envoy.History(id)
	if errors.Is(err, xds.ErrUnknownNode) {
		return out, nil // it starts
	} else if err != nil {
		return out, err
	}
	st, _ := n.envoy.Status(id)
	out.Pinned = xdsStatus(st, n.pinReason(), now).Pinned
	for i, p := range list {
		g := GenerationStatus{
			Version: p.Version, Latest: p.Latest, At: p.Time.UTC(), AgeSec: now.Sub(p.Time).Seconds(), Wanted: i == 0,
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
	answer := func(w http.ResponseWriter) {
		h, err := n.history(time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		admin.WriteJSON(w, h)
	}
	mux.HandleFunc("GET /xds", func(w http.ResponseWriter, _ *http.Request) { answer(w) })
	mux.HandleFunc("PUT /xds", func(w http.ResponseWriter, r *http.Request) {
		to, reason := r.URL.Query().Get("to"), shortened(r.URL.Query().Get("reason"), maxWords)
		if _, err := n.envoy.Rollback(string(n.cfg.Node), to); err != nil {
			http.Error(w, fmt.Sprintf("%v; dmsc xds history lists what there is", err), http.StatusBadRequest)
			return
		}
		n.pinnedFor.Store(&savedPin{to, reason})
		_ = n.post(r.Context(), pinChanged{})
		n.log.Warn("envoy is pinned to an earlier configuration until dmsc xds resume; newer ones wait", "version", to, "reason", reason)
		answer(w)
	})
	mux.HandleFunc("DELETE /xds", func(w http.ResponseWriter, r *http.Request) {
		served, err := n.envoy.Resume(string(n.cfg.Node))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		n.pinnedFor.Store(nil)
		_ = n.post(r.Context(), pinChanged{})
		n.log.Warn("envoy is given the newest configuration again", "version", served)
		answer(w)
	})
}
