package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// Phase is how far the last node has come after a fault.
type Phase string

// The phases, in their order.
const (
	Reset     Phase = "control stream ended" // at the last neighbour
	Detected  Phase = "noticed at the last end"
	Flooded   Phase = "record at the farthest" // at the last node whose RIB changes
	Computed  Phase = "RIB at the farthest"
	Published Phase = "published at the farthest"
	Acked     Phase = "FIB at the farthest" // Envoy has ACKed
)

var phases = []Phase{Reset, Detected, Flooded, Computed, Published, Acked}

// What the benchmark of a full sync measures against a target.
const (
	Synced   Phase = "database complete"
	Resident Phase = "RSS of the agent"
)

// target is what a figure shall not exceed, in milliseconds.
type target struct{ p50, p99 float64 }

// syncTargets are those of the design (§4) for 10k nodes and 100k prefixes.
var syncTargets = map[Phase]target{Synced: {p50: 1000, p99: 1000}, Resident: {p50: 150, p99: 150}}

// targets are those of the design (§4), all to the FIB at the farthest of eight
// nodes.
var targets = map[string]target{
	"cold start":            {p50: 1000, p99: 1000},
	"kill":                  {p50: 10, p99: 30},
	"return":                {p50: 100, p99: 100},
	"cut":                   {p50: 10, p99: 30},
	"second cut":            {p50: 10, p99: 30},
	"silent":                {p50: 300, p99: 300},
	"heal after cut":        {p50: 100, p99: 100},
	"heal after second cut": {p50: 100, p99: 100},
	"heal after silent":     {p50: 100, p99: 100},
}

// Figure is one line of the table.
type Figure struct {
	Event     string  `json:"event"`
	What      string  `json:"what"`
	Unit      string  `json:"unit"`
	P50       float64 `json:"p50"`
	P99       float64 `json:"p99"`
	Max       float64 `json:"max"`
	N         int     `json:"n"`
	TargetP50 float64 `json:"target_p50,omitempty"`
	TargetP99 float64 `json:"target_p99,omitempty"`
	Missed    bool    `json:"missed"`
}

// Result is what was measured.
type Result struct {
	events []string // in the order in which they were first seen
	whats  map[string][]string
	units  map[string]string
	values map[[2]string][]float64
}

func newResult() *Result {
	return &Result{whats: map[string][]string{}, units: map[string]string{}, values: map[[2]string][]float64{}}
}

func (r *Result) add(event string, at map[Phase]time.Duration) {
	for _, p := range phases {
		if d, ok := at[p]; ok {
			r.count(event, string(p), "ms", milliseconds(d))
		}
	}
}

func (r *Result) count(event, what, unit string, value float64) {
	if !slices.Contains(r.events, event) {
		r.events = append(r.events, event)
	}
	if !slices.Contains(r.whats[event], what) {
		r.whats[event] = append(r.whats[event], what)
	}
	r.units[what] = unit
	key := [2]string{event, what}
	r.values[key] = append(r.values[key], value)
}

// Figures are the lines of the table, in the order of what was measured.
func (r *Result) Figures() []Figure {
	out := []Figure{}
	for _, event := range r.events {
		for _, what := range r.whats[event] {
			v := slices.Sorted(slices.Values(r.values[[2]string{event, what}]))
			f := Figure{
				Event: event, What: what, Unit: r.units[what], N: len(v),
				P50: round(quantile(v, 0.5)), P99: round(quantile(v, 0.99)), Max: round(v[len(v)-1]),
			}
			t, ok := targets[event]
			if ok = ok && what == string(Acked); !ok {
				t, ok = syncTargets[Phase(what)]
			}
			if ok {
				f.TargetP50, f.TargetP99 = t.p50, t.p99
				f.Missed = f.P50 > t.p50 || f.P99 > t.p99
			}
			out = append(out, f)
		}
	}
	return out
}

// quantile is the smallest value that a share q of the sorted ones does not
// exceed.
func quantile(sorted []float64, q float64) float64 {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func round(v float64) float64 { return math.Round(v*10) / 10 }

// Print writes the table.
func (r *Result) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "EVENT\tWHAT\tP50\tP99\tMAX\tN\tTARGET\t")
	last := ""
	for _, f := range r.Figures() {
		event := f.Event
		if event == last {
			event = ""
		}
		last = f.Event
		goal := ""
		switch {
		case f.TargetP50 == 0:
		case f.TargetP50 == f.TargetP99:
			goal = fmt.Sprintf("≤ %g %s", f.TargetP99, f.Unit)
		default:
			goal = fmt.Sprintf("p50 ≤ %g, p99 ≤ %g %s", f.TargetP50, f.TargetP99, f.Unit)
		}
		if f.Missed {
			goal += "  MISSED"
		}
		unit := f.Unit
		if unit != "" {
			unit = " " + unit
		}
		fmt.Fprintf(t, "%s\t%s\t%.1f%s\t%.1f%s\t%.1f%s\t%d\t%s\t\n", event, f.What, f.P50, unit, f.P99, unit, f.Max, unit, f.N, goal)
	}
	return t.Flush()
}

// PrintJSON writes the figures as one JSON array.
func (r *Result) PrintJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r.Figures())
}
