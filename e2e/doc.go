// Package e2e holds the promises that only a whole network can keep, each as a
// test on real processes and real Envoys (draft Figure 2, design §5):
//
//	go test ./e2e
//
// Tests that change nothing share one network (shared); a test that kills or
// slows something starts its own (start). Figures are logged in lines that
// begin with "measured:". After a failure the folder of the network, with every
// configuration and log, stays and is named.
package e2e
