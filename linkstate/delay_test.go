package linkstate

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// slowDelay is delayMetric in the words of the design: it keeps every sample.
type slowDelay struct {
	at      []time.Time
	delays  []time.Duration
	said    time.Duration
	saidAt  time.Time
	changes int
}

func (d *slowDelay) measured(now time.Time, rtt time.Duration) dmsc.Metric {
	d.at, d.delays = append(d.at, now), append(d.delays, rtt/2)
	least := time.Hour
	for n, at := range d.at {
		if at.After(now.Add(-30 * time.Second)) {
			least = min(least, d.delays[n])
		}
	}
	moved := max(least-d.said, d.said-least)
	if d.saidAt.IsZero() || now.Sub(d.saidAt) >= 30*time.Second && moved >= time.Millisecond && float64(moved) >= 0.1*float64(d.said) {
		d.said, d.saidAt = least, now
		d.changes++
	}
	steps := int64(float64(d.said)/float64(500*time.Microsecond) + 0.5)
	return dmsc.Metric(max(1, steps))
}

func TestDelayMetricEqualsTheSlowOne(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	changes := 0
	for range 100 {
		var fast delayMetric
		var slow slowDelay
		now, base := epoch, time.Duration(r.Int64N(int64(40*time.Millisecond)))
		for range 1000 {
			now = now.Add(time.Duration(r.Int64N(int64(500 * time.Millisecond))))
			if r.IntN(100) == 0 {
				base = time.Duration(r.Int64N(int64(40 * time.Millisecond)))
			}
			rtt := base + time.Duration(r.ExpFloat64()*float64(10*time.Millisecond))
			was := fast.metric
			changed := fast.measured(now, rtt)
			if want := slow.measured(now, rtt); fast.metric != want || changed != (was != want) {
				t.Fatalf("at %s: metric %d, was %d, changed %t, want %d", now.Sub(epoch), fast.metric, was, changed, want)
			}
		}
		changes += slow.changes
	}
	if changes < 300 {
		t.Errorf("%d changes are too few to prove much", changes)
	}
}

// TestAQueueThatFillsAndDrainsNeverMovesADelayMetric plays square waves of any
// height and of any period of which 30 s hold a moment without a queue.
func TestAQueueThatFillsAndDrainsNeverMovesADelayMetric(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		base := time.Duration(1+r.Int64N(int64(50*time.Millisecond))) / 2 * 2
		queue := time.Duration(r.Int64N(int64(time.Second)))
		period := time.Duration(1+r.Int64N(29)) * time.Second
		var d delayMetric
		d.measured(epoch, base)
		want := d.metric
		for at := time.Duration(0); at < 10*time.Minute; at += 150 * time.Millisecond {
			rtt := base
			if at%period > period/4 {
				rtt += queue
			}
			if d.measured(epoch.Add(at), rtt) {
				t.Fatalf("base %s queue %s period %s: the metric went from %d to %d after %s", base, queue, period, want, d.metric, at)
			}
		}
	}
}
