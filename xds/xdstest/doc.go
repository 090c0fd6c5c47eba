// Package xdstest is a scripted delta ADS client over an in-memory connection:
// it says exactly what a test tells it to, and keeps everything it is told.
//
//	conn := xdstest.Serve(t, srv)
//	c := xdstest.Dial(t, conn, "sg-1")
//	c.Subscribe(xds.Clusters)           // the legacy wildcard
//	resp := c.Expect(xds.Clusters, "blue")
//	c.Ack(resp)
//	c.ExpectNothing()                   // proved by a fence, not by waiting
//
// Follow makes it behave like an Envoy instead: it accepts everything and asks
// for the endpoints and routes that clusters and listeners name.
package xdstest
