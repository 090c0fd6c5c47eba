// Package envoysim says what Envoy would do with a request, from the resources
// it was given: which listener, virtual host, route, cluster and host, what
// headers leave it, and what it answers itself. It is a pure function of the
// resources; a test runs the same requests through real Envoys and compares.
//
//	node, err := envoysim.New(resources) // an error names each field it cannot judge
//	decision, err := node.Route("dmsc/ingress", envoysim.Request{
//		Headers: envoysim.Headers{{"dmsc-service-prefix", "a/1"}},
//	})
//
// It interprets what package translator emits and not more. A field it does not
// know is refused by New instead of being passed over (understood.go), so a new
// feature of the translator has to be taught here or listed as irrelevant.
//
// The resources may also be those that a running Envoy tells of (FromConfigDump).
//
// A Network joins the nodes by their listeners' addresses and follows a request
// through them, with retries, alternates and demotions, to a pod or an error:
//
//	network, err := envoysim.NewNetwork(nodes)
//	step, err := network.Walk("sg-1", "dmsc/ingress", request, envoysim.Heaviest)
//
// What Envoy leaves to chance (weighted clusters, the host within a priority) is
// the caller's choice; Outcomes goes through all of them.
//
// Time is no part of it: deadlines, back-off, connection pools, and streams that
// are reset half-way are not simulated.
package envoysim
