package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// Comparison is one table of several subjects side by side: servers, table
// sizes or classes of service, all measured in the same run.
type Comparison struct {
	subjects []string // the columns, as they were first seen
	events   []string // in their order; others follow as they are first seen
	rows     []*row
}

// row is one line: what was measured of each subject.
type row struct {
	event, what, unit string
	limit             float64 // what is not to be exceeded; NaN = none
	of                string  // the subject that the limit is for; "" = each
	values            map[string][]float64
}

// ComparedFigure is one line of the table. Of several runs, a value is the
// median.
type ComparedFigure struct {
	Event    string             `json:"event"`
	What     string             `json:"what"`
	Unit     string             `json:"unit"`
	Measured map[string]float64 `json:"measured"` // by subject
	Worst    map[string]float64 `json:"worst"`    // the highest of all runs
	N        map[string]int     `json:"n"`
	// Target is what TargetOf shall not exceed, every subject when it is "";
	// absent when there is none.
	Target   *float64 `json:"target,omitempty"`
	TargetOf string   `json:"target_of,omitempty"`
	Missed   bool     `json:"missed"`
}

// add notes a value.
func (c *Comparison) add(event, what, unit, subject string, value float64) {
	if !slices.Contains(c.subjects, subject) {
		c.subjects = append(c.subjects, subject)
	}
	r := c.row(event, what, unit)
	r.values[subject] = append(r.values[subject], value)
}

// target sets what a subject, or every one when it is "", shall not exceed in a
// row that may still have no value.
func (c *Comparison) target(event, what, unit, subject string, limit float64) {
	r := c.row(event, what, unit)
	r.limit, r.of = limit, subject
}

func (c *Comparison) row(event, what, unit string) *row {
	for _, r := range c.rows {
		if r.event == event && r.what == what {
			return r
		}
	}
	r := &row{event: event, what: what, unit: unit, limit: math.NaN(), values: map[string][]float64{}}
	if !slices.Contains(c.events, event) {
		c.events = append(c.events, event)
	}
	c.rows = append(c.rows, r)
	return r
}

// Figures are the lines of the table. A line of which nothing was measured is
// left out.
func (c *Comparison) Figures() []ComparedFigure {
	out := []ComparedFigure{}
	rows := slices.SortedStableFunc(slices.Values(c.rows), func(a, b *row) int {
		return slices.Index(c.events, a.event) - slices.Index(c.events, b.event)
	})
	for _, r := range rows {
		if len(r.values) == 0 {
			continue
		}
		f := ComparedFigure{
			Event: r.event, What: r.what, Unit: r.unit,
			Measured: map[string]float64{}, Worst: map[string]float64{}, N: map[string]int{},
		}
		for subject, values := range r.values {
			v := slices.Sorted(slices.Values(values))
			f.Measured[subject], f.Worst[subject], f.N[subject] = quantile(v, 0.5), v[len(v)-1], len(v)
		}
		if !math.IsNaN(r.limit) {
			f.Target, f.TargetOf = &r.limit, r.of
			_, measured := f.Measured[r.of]
			f.Missed = !measured && r.of != ""
			for subject, v := range f.Measured {
				f.Missed = f.Missed || v > r.limit && (r.of == "" || r.of == subject)
			}
		}
		out = append(out, f)
	}
	return out
}

// Print writes the table: the median of the runs, and in brackets the worst
// when it differs.
func (c *Comparison) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "EVENT\tWHAT\t%s\tTARGET\t\n", strings.Join(c.subjects, "\t"))
	last := ""
	for _, f := range c.Figures() {
		event := f.Event
		if event == last {
			event = ""
		}
		last = f.Event
		what := f.What
		if f.Unit != "" {
			what += ", " + f.Unit
		}
		fmt.Fprintf(t, "%s\t%s\t", event, what)
		for _, s := range c.subjects {
			switch v, ok := f.Measured[s]; {
			case !ok:
				fmt.Fprint(t, "–\t")
			case number(f.Worst[s]) != number(v):
				fmt.Fprintf(t, "%s (%s)\t", number(v), number(f.Worst[s]))
			default:
				fmt.Fprintf(t, "%s\t", number(v))
			}
		}
		if f.Target != nil {
			fmt.Fprintf(t, "≤ %s", number(*f.Target))
			if f.TargetOf != "" && len(c.subjects) > 1 {
				fmt.Fprintf(t, " (%s)", f.TargetOf)
			}
			if f.Missed {
				fmt.Fprint(t, "  MISSED")
			}
		}
		fmt.Fprint(t, "\t\n")
	}
	return t.Flush()
}

// number prints three significant digits, and all digits of large numbers.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) || a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// PrintJSON writes the figures as one JSON array.
func (c *Comparison) PrintJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(c.Figures())
}
