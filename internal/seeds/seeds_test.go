package seeds_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/dmsc-mesh/dmsc/internal/seeds"
)

// Whatever the environment asks for, it is played, each seed once.
func TestTheEnvironmentSaysWhatIsPlayed(t *testing.T) {
	for _, c := range []struct {
		many, one string
		want      []uint64
	}{
		{"", "", []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		{"6", "", []uint64{1, 2, 3, 4, 5, 6}},
		{"3", "", []uint64{1, 2, 3}}, // fewer than there are goroutines
		{"", "7", []uint64{7}},
		{"6", "70", []uint64{70}},
		{"", "0", []uint64{0}},
	} {
		t.Run("DMSC_SEEDS="+c.many+" DMSC_SEED="+c.one, func(t *testing.T) {
			t.Setenv("DMSC_SEEDS", c.many)
			t.Setenv("DMSC_SEED", c.one)
			worlds := seeds.For(t, 10)
			var mu sync.Mutex
			var played []uint64
			worlds.Each(t, func(_ *testing.T, seed uint64) {
				mu.Lock()
				defer mu.Unlock()
				played = append(played, seed)
			})
			slices.Sort(played)
			if inOrder := slices.Collect(worlds.All()); !slices.Equal(played, c.want) || !slices.Equal(inOrder, c.want) || worlds.Count() != uint64(len(c.want)) {
				t.Errorf("%d seeds, all %v, each %v; want %v", worlds.Count(), inOrder, played, c.want)
			}
		})
	}
}
