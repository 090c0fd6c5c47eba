package scsc

import (
	"fmt"
	"time"

	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

// metric is what a threshold judges.
type metric uint8

const (
	delay metric = iota
	jitter
	bandwidth
	loss
)

// breach is one threshold that a quality reaches.
type breach struct {
	metric metric
	text   string // "delay 81ms >= 40ms"
}

// breaches returns the thresholds that q reaches, in a fixed order. The
// comparisons are inclusive: "less than or equal", "greater than or equal"
// (draft §5(3)).
func breaches(t policy.Thresholds, q Quality) []breach {
	var out []breach
	if l := t.Delay; l != nil && l.Above(q.Delay) {
		out = append(out, breach{delay, fmt.Sprintf("delay %v >= %v", round(q.Delay), l.Enter)})
	}
	if l := t.Jitter; l != nil && l.Above(q.Jitter) {
		out = append(out, breach{jitter, fmt.Sprintf("jitter %v >= %v", round(q.Jitter), l.Enter)})
	}
	if l := t.Bandwidth; l != nil && l.Below(q.Available) {
		out = append(out, breach{bandwidth, fmt.Sprintf("available bandwidth %s <= %s", bitrate(q.Available), bitrate(l.Enter))})
	}
	if l := t.Loss; l != nil && l.Above(q.Loss) {
		out = append(out, breach{loss, fmt.Sprintf("loss %.2f%% >= %.2f%%", 100*q.Loss, 100*l.Enter)})
	}
	return out
}

// clear reports whether q is on the good side of every clear value.
func clear(t policy.Thresholds, q Quality) bool {
	return (t.Delay == nil || q.Delay < t.Delay.Clear) &&
		(t.Jitter == nil || q.Jitter < t.Jitter.Clear) &&
		(t.Bandwidth == nil || q.Available > t.Bandwidth.Clear) &&
		(t.Loss == nil || q.Loss < t.Loss.Clear)
}

// better reports whether leaving a path of quality from for one of quality to
// is worth it: the first violated metric improves by at least 10 % (times also
// by 1 ms, loss by 0.1 points), and no threshold is reached that from keeps.
func better(t policy.Thresholds, from, to Quality) bool {
	bad := breaches(t, from)
	if len(bad) == 0 {
		return false
	}
	kept := func(m metric) bool {
		for _, b := range bad {
			if b.metric == m {
				return false
			}
		}
		return true
	}
	for _, b := range breaches(t, to) {
		if kept(b.metric) {
			return false
		}
	}
	switch bad[0].metric {
	case delay:
		return improves(from.Delay, to.Delay)
	case jitter:
		return improves(from.Jitter, to.Jitter)
	case bandwidth:
		return !to.Uncertain && to.Available > from.Available && to.Available-from.Available >= max(from.Available/10, 1)
	default:
		return from.Loss-to.Loss >= max(from.Loss/10, 0.001)
	}
}

func improves(from, to time.Duration) bool {
	return from-to >= max(from/10, time.Millisecond)
}

// tracker is the threshold state of one path under one rule:
//
//	OK ── ≥ m of the last n samples violate ──▶ VIOLATED
//	VIOLATED ── every sample clear for HoldDown ──▶ OK
//
// Without samples nothing changes: what is unknown is neither good nor bad.
type tracker struct {
	violated   bool
	recent     []bool // the last samples, newest last; true = violating
	bad        []breach
	quality    Quality   // of the last sample
	last       time.Time // of the last sample
	clearSince time.Time // of the first of the clear samples up to now; zero = last was not clear
}

// sample takes in one measurement and reports whether the state has changed.
func (t *tracker) sample(now time.Time, rule *policy.QoSPolicy, q Quality) bool {
	t.quality, t.last = q, now
	t.bad = breaches(rule.Thresholds, q)
	t.recent = append(t.recent, len(t.bad) > 0)
	if extra := len(t.recent) - rule.Trigger.Of; extra > 0 {
		t.recent = t.recent[extra:]
	}
	switch {
	case !clear(rule.Thresholds, q):
		t.clearSince = time.Time{}
	case t.clearSince.IsZero():
		t.clearSince = now
	}

	switch {
	case !t.violated && t.hits() >= rule.Trigger.Samples:
		t.violated = true
		return true
	case t.violated && t.recovered(rule):
		t.violated, t.recent = false, nil
		return true
	}
	return false
}

// recovered reports whether the path has been clear for the hold-down, counted
// from sample to sample.
func (t *tracker) recovered(rule *policy.QoSPolicy) bool {
	return !t.clearSince.IsZero() && t.last.Sub(t.clearSince) >= rule.HoldDown
}

func (t *tracker) hits() int {
	n := 0
	for _, hit := range t.recent {
		if hit {
			n++
		}
	}
	return n
}

func (t *tracker) state() string {
	switch {
	case t.last.IsZero():
		return "UNKNOWN"
	case t.violated:
		return "VIOLATED"
	}
	return "OK"
}

// round shortens a measured time for people.
func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(100 * time.Microsecond)
}

func bitrate(bps uint64) string {
	for _, u := range [...]struct {
		size uint64
		name string
	}{{1e9, "Gbps"}, {1e6, "Mbps"}, {1e3, "kbps"}} {
		if bps >= u.size {
			return fmt.Sprintf("%.4g%s", float64(bps)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%dbps", bps)
}
