package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Step is one line of the story.
type Step struct {
	Step   string         `json:"step"`
	OK     bool           `json:"ok"`
	Text   string         `json:"text"`
	Values map[string]any `json:"values,omitempty"`
	At     float64        `json:"at_seconds"`
}

// reporter prints the story, line by line, as it happens.
type reporter struct {
	w       io.Writer
	json    bool
	started time.Time
	steps   []Step
}

// say reports a step: ok says whether what was seen is what should be.
func (r *reporter) say(step string, ok bool, values map[string]any, format string, args ...any) {
	s := Step{Step: step, OK: ok, Text: fmt.Sprintf(format, args...), Values: values, At: round(time.Since(r.started).Seconds(), 3)}
	r.steps = append(r.steps, s)
	if r.json {
		b, err := json.Marshal(s)
		if err != nil {
			b = fmt.Appendf(nil, `{"step":%q,"ok":false,"text":%q}`, step, err)
		}
		fmt.Fprintf(r.w, "%s\n", b)
		return
	}
	mark := "✓"
	if !ok {
		mark = "✗"
	}
	fmt.Fprintf(r.w, " %s %s\n", mark, strings.ReplaceAll(s.Text, "\n", "\n   "))
}

// note prints a line that asserts nothing.
func (r *reporter) note(format string, args ...any) {
	if !r.json {
		fmt.Fprintf(r.w, "   "+format+"\n", args...)
	}
}

// failed returns the steps that did not hold.
func (r *reporter) failed() (out []Step) {
	for _, s := range r.steps {
		if !s.OK {
			out = append(out, s)
		}
	}
	return out
}

func round(f float64, digits int) float64 {
	p := 1.0
	for range digits {
		p *= 10
	}
	return float64(int64(f*p+0.5)) / p
}

// ms is a duration in milliseconds with one decimal, for values.
func ms(d time.Duration) float64 { return round(float64(d.Microseconds())/1000, 1) }
