package scsc

import (
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

// Draft §5(3): bandwidth "less than or equal", delay and jitter "greater than
// or equal" the preset threshold.
func TestThresholdsAreInclusive(t *testing.T) {
	limits := policy.Thresholds{
		Delay:     &policy.Limit[time.Duration]{Enter: 40 * time.Millisecond, Clear: 32 * time.Millisecond},
		Jitter:    &policy.Limit[time.Duration]{Enter: 10 * time.Millisecond, Clear: 8 * time.Millisecond},
		Bandwidth: &policy.Limit[uint64]{Enter: 20e6, Clear: 25e6},
		Loss:      &policy.Limit[float64]{Enter: 0.01, Clear: 0.003},
	}
	good := Quality{Delay: 1, Jitter: 1, Available: 1e9}
	for _, tc := range []struct {
		name     string
		change   func(*Quality)
		violated bool
		clear    bool
	}{
		{"all good", func(*Quality) {}, false, true},
		{"delay at enter", func(q *Quality) { q.Delay = 40 * time.Millisecond }, true, false},
		{"delay below enter", func(q *Quality) { q.Delay = 40*time.Millisecond - 1 }, false, false},
		{"delay at clear", func(q *Quality) { q.Delay = 32 * time.Millisecond }, false, false},
		{"delay below clear", func(q *Quality) { q.Delay = 32*time.Millisecond - 1 }, false, true},
		{"jitter at enter", func(q *Quality) { q.Jitter = 10 * time.Millisecond }, true, false},
		{"jitter below enter", func(q *Quality) { q.Jitter = 10*time.Millisecond - 1 }, false, false},
		{"jitter below clear", func(q *Quality) { q.Jitter = 8*time.Millisecond - 1 }, false, true},
		{"bandwidth at enter", func(q *Quality) { q.Available = 20e6 }, true, false},
		{"bandwidth above enter", func(q *Quality) { q.Available = 20e6 + 1 }, false, false},
		{"bandwidth at clear", func(q *Quality) { q.Available = 25e6 }, false, false},
		{"bandwidth above clear", func(q *Quality) { q.Available = 25e6 + 1 }, false, true},
		{"bandwidth unknown", func(q *Quality) { q.Available, q.Uncertain = Unlimited, true }, false, true},
		{"loss at enter", func(q *Quality) { q.Loss = 0.01 }, true, false},
		{"loss below clear", func(q *Quality) { q.Loss = 0.0029 }, false, true},
	} {
		q := good
		tc.change(&q)
		if got := len(breaches(limits, q)) > 0; got != tc.violated {
			t.Errorf("%s: violated = %v, want %v", tc.name, got, tc.violated)
		}
		if got := clear(limits, q); got != tc.clear {
			t.Errorf("%s: clear = %v, want %v", tc.name, got, tc.clear)
		}
	}
}

func TestNoThresholdMeansNoViolation(t *testing.T) {
	if got := breaches(policy.Thresholds{}, Quality{Delay: time.Hour, Jitter: time.Hour, Loss: 1}); len(got) > 0 {
		t.Errorf("breaches = %v, want none", got)
	}
}

// A path is violated by m of the last n samples, not by m in a row, and is OK
// again only after the hold-down without a single sample that is not clear.
func TestTrackerNeedsMofNAndHoldDown(t *testing.T) {
	rule := &policy.QoSPolicy{
		Thresholds: policy.Thresholds{Delay: &policy.Limit[time.Duration]{Enter: 40, Clear: 30}},
		Trigger:    policy.Trigger{Samples: 3, Of: 5},
		HoldDown:   2 * time.Second,
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var tr tracker
	for i, step := range []struct {
		delay    time.Duration
		violated bool
	}{
		{40, false}, {10, false}, {40, false}, {10, false}, // 2 of 4
		{39, false}, {40, false}, // 40 10 39 40 … the first 40 has left the window
		{40, true},                                     // 40 10 39 40 40
		{10, true}, {10, true}, {10, true}, {35, true}, // between clear and enter: starts over
		{10, true}, {10, true}, {10, true}, {10, true}, {10, false}, // 4 × 500 ms
		{40, false}, {40, false}, {40, true}, // the window began anew
	} {
		tr.sample(start.Add(time.Duration(i)*500*time.Millisecond), rule, Quality{Delay: step.delay})
		if tr.violated != step.violated {
			t.Fatalf("sample %d (%d): violated = %v, want %v", i, step.delay, tr.violated, step.violated)
		}
	}
}

func TestBetterTakesTenPercentAndAMillisecond(t *testing.T) {
	limits := policy.Thresholds{
		Delay:     &policy.Limit[time.Duration]{Enter: 5 * time.Millisecond},
		Bandwidth: &policy.Limit[uint64]{Enter: 10},
	}
	const ms = time.Millisecond
	room := func(d time.Duration) Quality { return Quality{Delay: d, Available: 100} }
	for _, tc := range []struct {
		name     string
		from, to Quality
		want     bool
	}{
		{"nothing violated", room(4 * ms), room(1 * ms), false},
		{"10 % exactly", room(100 * ms), room(90 * ms), true},
		{"less than 10 %", room(100 * ms), room(90*ms + 1), false},
		{"1 ms exactly", room(6 * ms), room(5 * ms), true},
		{"less than 1 ms", room(6 * ms), room(5*ms + 1), false},
		{"faster but full", room(100 * ms), Quality{Delay: ms, Available: 10}, false},
		{"room elsewhere", Quality{Delay: ms, Available: 10}, Quality{Delay: ms, Available: 11}, true},
		{"perhaps room elsewhere", Quality{Delay: ms, Available: 10}, Quality{Delay: ms, Available: 11, Uncertain: true}, false},
		{"room but too slow", Quality{Delay: ms, Available: 10}, Quality{Delay: 5 * ms, Available: 100}, false},
	} {
		if got := better(limits, tc.from, tc.to); got != tc.want {
			t.Errorf("%s: better = %v, want %v", tc.name, got, tc.want)
		}
	}
}
