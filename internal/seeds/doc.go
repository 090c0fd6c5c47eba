// Package seeds says which random worlds a test looks at. Each world follows
// from its seed alone, and a failure names the seed:
//
//	worlds := seeds.For(t, 2000)
//	worlds.Each(t, func(t *testing.T, seed uint64) {
//		r := rand.New(rand.NewPCG(seed, 0))
//		…
//	})
//	if worlds.Count() >= 500 && … { // so many must have seen everything
//
// DMSC_SEEDS sets how many there are, for a soak or for the race detector.
// DMSC_SEED asks for one alone: DMSC_SEED=7 go test ./internal/sim.
package seeds
