// Package measure is how a node's agent finds out what its links, its Envoy and
// its local services are worth (draft §4.2(5), §5(3)).
//
// Everything goes the way requests go: a probe of a link is an HTTP request to
// the probe listener of the node's own Envoy, which sends it to the far Envoy
// over the connections of that link; the far Envoy answers out of its FIB with
// its node id. So a link is alive only when both Envoys forward.
//
//	p := measure.NewProber(measure.ProberConfig{
//		Listener: "unix:///run/dmsc/probe.sock",
//		OnResult: func(r measure.Result) { events <- r }, // from many goroutines
//	})
//	p.SetLinks(links)
//	go p.Run(ctx)
//	p.ProbeNow(link) // a control stream has broken: ask at once
//
// Window turns the results of one link into the numbers of a report; Traffic
// reads how much the node's Envoy has sent and received per link; Detector has
// local services detect themselves. Window and the arithmetic of Traffic are
// pure.
package measure
