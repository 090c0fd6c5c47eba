// Package linkstatetest runs many linkstate.Instances in one goroutine and in
// virtual time: a deterministic network of links with delay, loss, duplication
// and reordering, of streams that break and are dialled anew, of Envoys that
// answer probes out of a FIB, and of nodes that are killed and restarted with
// or without their state file. The same seed and the same calls give the same
// run, to the message.
//
//	net := linkstatetest.NewNetwork(seed)
//	net.AddNode("sg-1", dmsc.RoleSG)
//	net.AddNode("sr-1", dmsc.RoleSR)
//	net.AddLink("sg-1", "sr-1", linkstatetest.Link{Metric: 10})
//	net.Announce("sg-1", linkstatetest.Prefix("a/1"))
//	net.Run(2 * time.Second)
//	net.Instance("sr-1").View() // has sg-1's records
//
// Tests that build more onto a node (a RIB, a forwarding check) set OnReady,
// which is called after every turn of every node, or read the Views when Run
// returns. Scene offers the
// same as verbs for datadriven files.
package linkstatetest
