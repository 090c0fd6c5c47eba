// Package sim runs the real link-state engine of a whole network in virtual
// time, lets faults happen to it, and checks that what must hold does hold. It
// is both the verb dmsc sim and the largest test of linkstate and rib.
//
//	report, err := sim.Run(ctx, sim.Options{Topology: t, Seed: 7, Events: 100, Loss: 0.05})
//	if report.Failure != nil {
//		fmt.Println(report.Failure.Scene) // goes into linkstate/testdata/scenes as it is
//	}
//
// # The script
//
// A seed and a topology make a script: lines in the words of
// linkstatetest.Scene (script.go). It draws the network, waits for its rest,
// goes on in phases of some events each, with a rest after each phase, and in
// the last one everything is mended. What is broken when a phase ends stays
// broken, so that a rest is one of parts as often as of a whole.
//
// # What plays it
//
// Each node is a linkstate.Instance and a rib.Engine, and an Envoy that
// forwards by the last RIB it was given (network.go). The same script gives the
// same run, to the message: nothing here has a clock, a goroutine or a chance
// that does not follow from the seed.
//
// At any time no record may go back to an older version. At every rest all
// rules of linkstatetest.Network.Rest hold, and those of check.go: each RIB is
// what a slow reference says, Envoy has it, and requests walk along all next
// hops to their end. Between the events requests are walked hop by hop over
// what each Envoy holds at that moment (request.go); they are counted, for some
// of them are lost when the only node that could have served them has died.
//
// # A failure
//
// Drops lines from the script as long as it still breaks the same rule
// (shrink.go), and what is left tells the story.
package sim
