// Package bench measures real processes: how fast a network converges, how long
// a large database takes, what our xDS server costs beside go-control-plane's,
// what an Envoy pays for a large table, and what a client loses when things die.
//
//	r, err := bench.Convergence(ctx, bench.Options{Runs: 20, Binary: dmsc, Envoy: envoy})
//	r.Print(os.Stdout)
//
// # Convergence
//
// Eight agents with their Envoys on the loopback, joined by relays, are broken
// and healed again and again.
//
// Every time is counted from the moment before the fault is made (a kill, or
// the word to a relay) to moments that the agents themselves have noted
// (node.Moment): one machine has one clock. A fault is over when every Envoy
// has ACKed the configuration that follows from it. Nothing is polled while the
// network works; the timelines are read when it has come to rest.
//
// The network is the one on which other engines were measured: r7-r1-r2-r3-r4-r8
// with metric 10, and the way around r1-r6-r5-r4 with metric 20. A gateway with
// a pod stands at each end.
package bench
