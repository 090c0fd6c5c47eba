// Package xds serves Envoy its configuration: a discovery server (delta and
// state-of-the-world, aggregated and by type) that publishes one Set per node,
// make-before-break, and knows what every Envoy has accepted.
//
//	srv := xds.New(xds.Config{Log: log, OnEvent: node.OnXDS})
//	g := grpc.NewServer(xds.ServerOptions()...)
//	srv.Register(g)
//	…
//	version, err := srv.Publish("sg-1", set) // never waits for an Envoy
//	…
//	// later, from a stream's goroutine: OnEvent(Event{Kind: Acked, Version: version})
//
// # How it works
//
// A Set is compiled once: each resource is validated, marshalled and named by
// the hash of its content, and the Set by the hash of its resources. Equal
// content therefore has equal versions in every replica and after every
// restart, and an Envoy that comes back with initial_resource_versions is sent
// nothing. What two sets have in common they share, down to whole sets of
// different nodes. Publish appends the names that changed to the node's log and
// wakes its streams. A stream is one goroutine that owns all it knows of its client;
// it decides what to send when it can send, so a client that does not read
// costs one set of names, and delays nobody. A stream that is in step with a set
// refers to it, and holds nothing per resource: only what differs (in flight,
// parked, just asked for) is its own, and a change of k resources costs it work
// for k. A response is made of bytes that all streams share, from the compiled
// resource to the socket. Before the first Publish a client
// is sent nothing at all: it keeps what it runs.
//
// # The order of an update
//
// Clusters first; behind each cluster its endpoints, again if only the cluster
// changed (Envoy finishes warming only on a new assignment, and acknowledges
// clusters only when they are warm); routes and listeners when all of those
// are accepted; then removals: routes and listeners before clusters, clusters
// before endpoints. Endpoints of
// clusters that did not change (health) wait for nothing. Each wait is per
// dependency and bounded by Config.GateTimeout, after which the stream goes on
// and says so. A newer Set takes the place of an older one at any point.
//
// # Refusals
//
// A NACKed version is parked: it is not sent again until its content changes,
// and Envoy goes on running what it had. A listener alone is, from every 5 s to
// every minute: it may be refused because its port is taken. Resources of the same response that
// Envoy's words do not name are sent again without it. A route or listener
// that needs a parked cluster Envoy has no older version of waits with it,
// and nothing it may still use is removed. The next good version heals.
// Of several clients with one node.id, the one that has accepted the most, and
// then the oldest, speaks for the node: Status is its, and what another one
// refuses is parked on that stream, and no event.
//
// # Going back
//
// The last sets of each node are kept (History), 20 unless they are very large.
// Rollback pins a node to one of them: newer ones are recorded and wait for
// Resume, while the endpoints of the pinned set's clusters go on following the
// newest set, because they carry liveness.
//
// # On demand
//
// A client without a wildcard is given the clusters it names and no others. A
// client with one is given all but Set.OnDemand, which it gets by name (Envoy's
// ODCDS). Nothing waits for a cluster that the client has not asked for.
//
// # Without ADS
//
// Register adds the CDS, EDS, RDS and LDS services too, for clients that use a
// stream per type, or, as Envoy does, one for each cluster's endpoints and each
// route table. The streams of one node.id keep the order of an update together,
// and Acked means that together they run the set: see siblings.go. A type that
// nobody asks for is waited for as one that does not answer, by the clock.
//
// # Bounds
//
// A client can cost its own stream only: see bounds.go. Large responses to many
// clients are bounded by flow control and not by a queue of senders: a response
// is a list of references to shared bytes, of which gRPC copies one write buffer
// at a time, and only as much as the client's window takes. A queue would bound
// nothing more, and let the slow hold up the others.
package xds
