package seeds

import (
	"fmt"
	"iter"
	"os"
	"strconv"
	"testing"
)

// Range is first, first+1, … up to count seeds.
type Range struct{ first, count uint64 }

// For is the seeds from 1 on, as many as n, or what the environment asks for
// instead. What is not a number there fails the test.
func For(t testing.TB, n uint64) Range {
	t.Helper()
	if one, ok := number(t, "DMSC_SEED"); ok {
		return Range{one, 1}
	}
	if count, ok := number(t, "DMSC_SEEDS"); ok {
		n = count
	}
	return Range{1, n}
}

func number(t testing.TB, env string) (n uint64, ok bool) {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n, true
}

// Count is how many there are. What a few worlds cannot show is not asked of
// them.
func (r Range) Count() uint64 { return r.count }

// All yields them in order.
func (r Range) All() iter.Seq[uint64] { return r.every(0, 1) }

// every yields the seed at from, and each that is step further.
func (r Range) every(from, step uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for i := from; i < r.count; i += step {
			if !yield(r.first + i) {
				return
			}
		}
	}
}

// Each plays them on four goroutines and returns when all have ended. One that
// fails is named, and the last of its goroutine.
func (r Range) Each(t *testing.T, play func(t *testing.T, seed uint64)) {
	const workers = 4
	t.Run("seeds", func(t *testing.T) {
		for worker := range uint64(workers) {
			t.Run(fmt.Sprintf("worker %d", worker), func(t *testing.T) {
				t.Parallel()
				for seed := range r.every(worker, workers) {
					if named(t, seed, play); t.Failed() {
						return
					}
				}
			})
		}
	})
}

// named is play, which may end its goroutine.
func named(t *testing.T, seed uint64, play func(*testing.T, uint64)) {
	defer func() {
		if t.Failed() {
			t.Logf("again: DMSC_SEED=%d", seed)
		}
	}()
	play(t, seed)
}
