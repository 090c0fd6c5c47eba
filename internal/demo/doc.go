// Package demo tells the story of a DMSC network on real Envoys: it starts one
// with internal/lab, announces, is refused, forwards, kills, slows and heals,
// and reports each step with what was measured. Every line is an observation;
// with Options.Once a line that does not hold makes the run fail.
//
//	err := demo.Run(ctx, demo.Options{Topology: topology.Figure2(), Envoy: envoy, Binary: dmsc, Once: true, Out: os.Stdout})
//
// What the story is about is chosen from the topology (plan.go): a name asked
// for at a gateway across at least one router, a router on its way that can be
// lost, a link on its way that can be avoided. What a topology cannot show is
// said instead of shown.
package demo
