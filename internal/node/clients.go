package node

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// A gateway that is taken out of service lets its clients go before its links:
// the listeners at which they enter are taken from Envoy, which answers what is
// under way, tells each connection with the next answer that it is the last one
// (Connection: close, GOAWAY), and lets nobody else in.

// ClientsStatus is the answer to GET and PUT /clients?closed= on the control
// socket, as Envoy sees it.
type ClientsStatus struct {
	// Closed: Envoy accepts no more clients. Of those it has, so many connections
	// and requests are left.
	Closed      bool `json:"closed"`
	Connections int  `json:"connections"`
	Requests    int  `json:"requests"`
}

// clientsClosed reports whether clients are to be let in no more. A node without links
// has nowhere to take them.
func (l *loopState) clientsClosed() bool {
	return l.closed || l.drain == linkstate.DrainRemoved
}

// clientsSet: an operator closes the listeners of clients, or opens them again.
type clientsSet struct {
	closed bool
	shown  chan<- struct{} // closed when readers see it
}

func (e clientsSet) apply(n *Node, _ time.Time) {
	if e.closed != n.loop.closed {
		n.log.Warn("clients", "closed", e.closed)
		n.loop.closed = e.closed
	}
	n.loop.drainShown = append(n.loop.drainShown, e.shown)
}

// clientListeners are those at which clients enter.
var clientListeners = []string{"dmsc/ingress", "dmsc/outside"}

// clientGauges are Envoy's counts of their connections and requests, in whose
// names a listener has _ for /.
var clientGauges = `^http\.(` + strings.ReplaceAll(strings.Join(clientListeners, "|"), "/", "_") + `)\.downstream_(cx|rq)_active$`

// clients asks Envoy.
func (n *Node) clients(ctx context.Context) (st ClientsStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	envoy := admin.Client{Address: n.cfg.Envoy.Admin}
	var listeners struct {
		Statuses []struct {
			Name string `json:"name"`
		} `json:"listener_statuses"`
	}
	if err := envoy.Do(ctx, http.MethodGet, "/listeners", url.Values{"format": {"json"}}, &listeners); err != nil {
		return st, fmt.Errorf("listeners of Envoy: %w", err)
	}
	st.Closed = true
	for _, l := range listeners.Statuses {
		st.Closed = st.Closed && !slices.Contains(clientListeners, l.Name)
	}
	var counters struct {
		Stats []struct {
			Name  string `json:"name"`
			Value int    `json:"value"`
		} `json:"stats"`
	}
	q := url.Values{"format": {"json"}, "type": {"Gauges"}, "filter": {clientGauges}}
	if err := envoy.Do(ctx, http.MethodGet, "/stats", q, &counters); err != nil {
		return st, fmt.Errorf("counters of Envoy: %w", err)
	}
	for _, s := range counters.Stats {
		if strings.HasSuffix(s.Name, "_cx_active") {
			st.Connections += s.Value
		} else {
			st.Requests += s.Value
		}
	}
	return st, nil
}

// controlClients serves /clients.
func (n *Node) controlClients(mux *http.ServeMux) {
	status := func(w http.ResponseWriter, r *http.Request) {
		st, err := n.clients(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		admin.WriteJSON(w, st)
	}
	mux.HandleFunc("GET /clients", status)
	mux.HandleFunc("PUT /clients", func(w http.ResponseWriter, r *http.Request) {
		if p := n.picture.Load(); p != nil && p.split.under != nil {
			http.Error(w, "Envoy is pinned to an earlier configuration, with the listeners of that; dmsc xds resume comes first", http.StatusConflict)
			return
		}
		shown := make(chan struct{})
		order := clientsSet{r.URL.Query().Get("closed") == "true", shown}
		if n.carryOut(w, r, order, shown) {
			status(w, r)
		}
	})
}
