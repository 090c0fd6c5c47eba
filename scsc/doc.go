// Package scsc is the scheduling centre (draft §5(3), §5(4)): it keeps what SGs
// and SRs measure, judges it by an operator's QoSPolicy rules, and steers names
// away from what is slow, full or failing. Plain SPF is the base; the SCSC
// issues exceptions, and never stands in the path of a request.
//
// The core is Center: pure, without clock, goroutine or wire format.
//
//	c := scsc.NewCenter(scsc.Config{Term: 7})
//	c.SetPolicies(rules)
//	for {
//		select {
//		case v := <-views:     c.LSDB(v)
//		case t := <-telemetry: c.Telemetry(now(), t.node, t.report)
//		case s := <-states:    c.Status(now(), s.node, s.status)
//		case <-ticker:
//			d := c.Tick(now())
//			send(d.Sets, d.Plans) // sets and plans of one Tick in any order
//		}
//	}
//
// What a Tick does. Each name that a rule selects is judged at each SG that does
// not deliver it itself, on the paths plain SPF uses and on the path it is
// pinned to. A path's quality is composed of its links, which their two ends
// measure, and of the service at its egress, which detects itself. A path is
// sampled when every link on it has been reported anew; a missing report is no
// sample, and without samples the last decision holds. When m of n samples
// reach a threshold, Dijkstra over measured delays finds the best instance and
// path; if that is better, a policy goes to the other nodes of the path first
// and to the ingress as soon as these report it live. Of several ingresses one
// has it first (Config.MaxUnconfirmed), then waves as large as what has proved
// good follow; when Envoys refuse it, its rule is halted (rollout.go). When all
// the paths of plain SPF have been clear for the hold-down, the policy is
// withdrawn.
//
// Server puts the Center behind the gRPC QoSService, Client is the other end of
// it in a node, and Overlay, pure again, is what a node keeps: the newest set,
// until its TTL runs out.
package scsc
