package node

import (
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/xds"
)

// The pages of the health listener: lower_snake_case, units in the names, lists
// never null. What a page shows is made by its reader, from what the loop has
// left in the picture and in the table of records.

// adminConfig is what the health listener serves.
func (n *Node) adminConfig() admin.Config {
	return admin.Config{
		Ready:   n.checks,
		Metrics: n.metrics.registry,
		JSON: map[string]admin.Page{
			"/api/v1/node":        admin.Whole(func() any { return n.summary() }),
			"/api/v1/status":      admin.Whole(func() any { return n.Status() }),
			"/api/v1/lsdb":        n.lsdbPage,
			"/api/v1/adjacencies": n.adjacencyPage,
			"/api/v1/rib":         n.ribPage,
			"/api/v1/fib":         n.fibPage,
			"/api/v1/lookup":      n.lookupPage,
			"/api/v1/steering":    n.steeringPage,
			"/api/v1/spf-log":     n.spfLogPage,
			"/api/v1/xds-history": func(q url.Values) (any, error) {
				h, err := n.history(time.Now())
				return h, errors.Join(err, admin.Known(q))
			},
			"/api/v1/timeline": admin.Whole(func() any { return n.timeline.list() }),
		},
		Other: map[string]http.HandlerFunc{"/api/v1/envoy/config_dump": n.configDump},
	}
}

func (n *Node) adjacencyPage(q url.Values) (any, error) {
	return n.list(q, func(p *picture) iter.Seq[any] { return each(p.adjacencies(time.Now())) })
}

func (n *Node) steeringPage(q url.Values) (any, error) {
	return n.list(q, func(p *picture) iter.Seq[any] { return each(p.steering()) })
}

// list serves items of the picture, none before the first; ?limit=N at most N.
func (n *Node) list(q url.Values, items func(*picture) iter.Seq[any]) (any, error) {
	if err := admin.Known(q, "limit"); err != nil {
		return nil, err
	}
	limit, err := limitOf(q)
	p := n.picture.Load()
	switch {
	case err != nil:
		return nil, err
	case p == nil:
		return admin.List(func(func(any) bool) {}), nil
	}
	return first(limit, items(p)), nil
}

// limitOf reads ?limit=, 0 for none.
func limitOf(q url.Values) (int, error) {
	s := q.Get("limit")
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("limit %q is not a number from 1 on", s)
	}
	return n, nil
}

// first is the beginning of a list, all of it if limit is 0.
func first(limit int, items iter.Seq[any]) admin.List {
	return func(yield func(any) bool) {
		n := 0
		for v := range items {
			if !yield(v) {
				return
			}
			if n++; n == limit {
				return
			}
		}
	}
}

func each[T any](in []T) iter.Seq[any] {
	return func(yield func(any) bool) {
		for _, v := range in {
			if !yield(v) {
				return
			}
		}
	}
}

// XDSStatus is how far the Envoy beside the agent has come, by its xDS stream.
type XDSStatus struct {
	Connected bool            `json:"connected"`
	Streams   int             `json:"streams"`
	Since     time.Time       `json:"since,omitzero"` // opening of the stream or, if none is left, its end
	SinceSec  float64         `json:"since_seconds"`
	Phase     xds.Phase       `json:"phase"`
	Converged bool            `json:"converged"`
	Types     []XDSTypeStatus `json:"types"`
	LastNack  *NackStatus     `json:"last_nack,omitempty"` // also after it healed
	// Pinned is set while Envoy is pinned to an earlier configuration.
	Pinned *PinStatus `json:"pinned,omitempty"`
}

// PinStatus is the configuration that an operator has gone back to.
type PinStatus struct {
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
	// SinceSec is by the clock of the node.
	SinceSec float64 `json:"since_seconds"`
	Reason   string  `json:"reason,omitempty"`
	Waiting  int     `json:"waiting"` // newer configurations that are held back
	Newest   string  `json:"newest"`  // what would be served without the pin
	// Withheld are the first of the prefixes of pods that are not announced
	// because the pinned configuration does not deliver them; WithheldCount is all.
	Withheld      []string `json:"withheld"`
	WithheldCount int      `json:"withheld_count"`
}

// XDSTypeStatus compares the versions of one resource type.
type XDSTypeStatus struct {
	Type     string   `json:"type"`
	Wanted   string   `json:"wanted"`
	Sent     string   `json:"sent"`
	Acked    string   `json:"acked"`
	Rejected []string `json:"rejected"`
}

// NackStatus is a refusal, in Envoy's words.
type NackStatus struct {
	Type      string    `json:"type"`
	Resources []string  `json:"resources"`
	Message   string    `json:"message"`
	Version   string    `json:"version"`
	When      time.Time `json:"when"`
}

func xdsStatus(s xds.Status, under split, now time.Time) *XDSStatus {
	out := &XDSStatus{Connected: s.Connected, Streams: s.Streams, Since: s.Since.UTC(), Phase: s.Phase, Converged: s.Converged}
	if !s.Since.IsZero() {
		out.SinceSec = now.Sub(s.Since).Seconds()
	}
	for t, v := range s.Types {
		out.Types = append(out.Types, XDSTypeStatus{
			Type: xds.Type(t).String(), Wanted: v.Wanted, Sent: v.Sent, Acked: v.Acked, Rejected: some(v.Rejected),
		})
	}
	if p := s.Pinned; p != nil {
		out.Pinned = &PinStatus{
			Version: p.Version, Since: p.Since.UTC(), SinceSec: now.Sub(p.Since).Seconds(), Reason: under.why(), Waiting: p.Waiting, Newest: p.Newest,
			Withheld: some(under.first()), WithheldCount: len(under.withheld),
		}
	}
	if n := s.LastNack; n != nil {
		out.LastNack = &NackStatus{Type: n.Type.String(), Resources: some(n.Resources), Message: n.Message, Version: n.Version, When: n.When.UTC()}
	}
	return out
}

// some is in, or an empty list for nil.
func some[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}
