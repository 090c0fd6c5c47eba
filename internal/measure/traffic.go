package measure

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Rate is what the node sends and receives over one link on the connections
// that its own Envoy has opened, in bit/s. What the neighbour's Envoy has opened
// is in the neighbour's report.
type Rate struct{ Sent, Received uint64 }

// Traffic reads the byte counters of the own Envoy. It is for one goroutine.
type Traffic struct {
	client *http.Client
	links  func(cluster string) []linkstate.LinkKey
	last   counters
	at     time.Time
}

// NewTraffic reads from an Envoy's admin listener ("host:port" or
// "unix:///path"). links names the links that a cluster's requests take; the
// bytes of a cluster with several are split evenly, as Envoy spreads requests
// over equal next hops. None means that the cluster is of no interest.
func NewTraffic(admin string, links func(cluster string) []linkstate.LinkKey) *Traffic {
	return &Traffic{client: newClient(admin), links: links}
}

// counters are bytes by cluster since Envoy has known it.
type counters map[string]bytes

type bytes struct{ sent, received uint64 }

const (
	statPrefix   = "cluster."
	sentStat     = ".upstream_cx_tx_bytes_total"
	receivedStat = ".upstream_cx_rx_bytes_total"
	statFilter   = `^cluster\.dmsc/.*\.upstream_cx_(tx|rx)_bytes_total$`
)

// Read returns the rates since the last Read; none the first time.
func (t *Traffic) Read(ctx context.Context, now time.Time) (map[linkstate.LinkKey]Rate, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy/stats?format=json&filter="+url.QueryEscape(statFilter), nil)
	if err != nil {
		return nil, fmt.Errorf("read Envoy's counters: %w", err)
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read Envoy's counters: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read Envoy's counters: status %d", resp.StatusCode)
	}
	c, err := parseCounters(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read Envoy's counters: %w", err)
	}
	rates := deltas(t.last, c, now.Sub(t.at), t.links)
	t.last, t.at = c, now
	return rates, nil
}

// Close closes the connection to the admin listener.
func (t *Traffic) Close() { t.client.CloseIdleConnections() }

func parseCounters(r io.Reader) (counters, error) {
	var doc struct {
		Stats []struct {
			Name  string `json:"name"`
			Value uint64 `json:"value"`
		} `json:"stats"`
	}
	if err := json.NewDecoder(r).Decode(&doc); err != nil {
		return nil, fmt.Errorf("decode stats: %w", err)
	}
	out := make(counters)
	for _, s := range doc.Stats {
		name, ok := strings.CutPrefix(s.Name, statPrefix)
		if !ok {
			continue
		}
		if cluster, ok := strings.CutSuffix(name, sentStat); ok {
			b := out[cluster]
			b.sent = s.Value
			out[cluster] = b
		} else if cluster, ok := strings.CutSuffix(name, receivedStat); ok {
			b := out[cluster]
			b.received = s.Value
			out[cluster] = b
		}
	}
	return out, nil
}

// deltas turns two readings into rates. A cluster whose counters went back has
// been made anew (Envoy restarted): its sample is dropped, like that of a
// cluster that was not there before.
func deltas(before, after counters, elapsed time.Duration, links func(string) []linkstate.LinkKey) map[linkstate.LinkKey]Rate {
	if before == nil || elapsed <= 0 {
		return nil
	}
	out := make(map[linkstate.LinkKey]Rate)
	for cluster, b := range after {
		a, known := before[cluster]
		over := links(cluster)
		if !known || len(over) == 0 || b.sent < a.sent || b.received < a.received {
			continue
		}
		share := func(n uint64) uint64 {
			return uint64(float64(n) * 8 / elapsed.Seconds() / float64(len(over)))
		}
		for _, l := range over {
			r := out[l]
			r.Sent += share(b.sent - a.sent)
			r.Received += share(b.received - a.received)
			out[l] = r
		}
	}
	return out
}
