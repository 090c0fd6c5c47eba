package measure

import (
	"slices"
	"time"
)

// Window keeps the samples of the last Span and summarises them. The zero value
// has no span and keeps nothing.
type Window struct {
	Span    time.Duration
	samples []sample // by time
}

type sample struct {
	at   time.Time
	rtt  time.Duration
	lost bool
	cold bool
}

// Quality is a summary of round-trip times, or of other durations.
type Quality struct {
	Probes, Lost     uint32
	Min, Median, P95 time.Duration // of the answered, warm probes; 0 without one
	// Jitter is p95 - minimum (RFC 5481, PDV). Of round trips the one-way value
	// is half of it.
	Jitter time.Duration
}

// Add takes in one answer. A cold one counts as answered, and its time, which
// holds the set-up of a connection, is left out.
func (w *Window) Add(at time.Time, rtt time.Duration, cold bool) {
	w.add(sample{at: at, rtt: rtt, cold: cold})
}

// AddLost takes in a probe without answer.
func (w *Window) AddLost(at time.Time) { w.add(sample{at: at, lost: true}) }

func (w *Window) add(s sample) {
	w.samples = append(w.samples, s)
	w.expire(s.at)
}

func (w *Window) expire(now time.Time) {
	w.samples = slices.DeleteFunc(w.samples, func(s sample) bool { return now.Sub(s.at) >= w.Span })
}

// Quality summarises the samples younger than Span.
func (w *Window) Quality(now time.Time) Quality {
	w.expire(now)
	var q Quality
	var times []time.Duration
	for _, s := range w.samples {
		q.Probes++
		switch {
		case s.lost:
			q.Lost++
		case !s.cold:
			times = append(times, s.rtt)
		}
	}
	if len(times) == 0 {
		return q
	}
	slices.Sort(times)
	q.Min, q.Median, q.P95 = times[0], quantile(times, 50), quantile(times, 95)
	q.Jitter = q.P95 - q.Min
	return q
}

// quantile is the nearest-rank quantile of sorted values: one that occurred.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[max((len(sorted)*percent+99)/100, 1)-1]
}
