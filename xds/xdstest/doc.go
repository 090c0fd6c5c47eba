// Package xdstest is a scripted ADS client of either dialect over an in-memory
// connection: it says exactly what a test tells it to, and keeps everything it
// is told.
//
//	conn := xdstest.Serve(t, srv)
//	c := xdstest.Dial(t, conn, "sg-1")
//	c.Subscribe(xds.Clusters)           // the legacy wildcard
//	resp := c.Expect(xds.Clusters, "blue")
//	c.Ack(resp)
//	c.ExpectNothing()                   // proved by a fence, not by waiting
//
// DialAs speaks the other dialect. Stream is the wire below a Client, for tests
// that keep their own books.
//
// Follow makes it behave like an Envoy instead: it accepts everything and asks
// for the endpoints and routes that clusters and listeners name.
package xdstest
