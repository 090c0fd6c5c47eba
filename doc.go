// Package dmsc is the vocabulary of a service network without a central
// control plane in the request path, after the Internet-Draft "Distributed
// Micro Service Communication architecture based on Content Semantic"
// (draft-li-dmsc-architecture-01, "the draft").
//
// Pods announce service prefixes such as a/1 (function a, instance 1) to their
// Service Gateway (SG). The SG has a Service Prefix Authentication unit (SPA)
// approve them and floods them, with its links, to Service Routers (SR) and
// other gateways. Every node computes shortest paths over the same link-state
// database and programs the Envoy beside it, and the Envoys forward each
// request hop by hop on a service-prefix header. A scheduling centre (SCSC)
// measures quality and steers traffic away from what is slow or failing. If
// the SPA and the SCSC die, the network keeps forwarding and keeps healing.
//
// # A tour
//
// One datum, the announcement of a/1, walks through the packages like this:
//
//	pod ── announce (type 1) ──▶ internal/node ── claim (type 3) ──▶ spa
//	                                  │ grant
//	                                  ▼
//	      linkstate: PrefixLSA ── flood (type 2, linkstate/peering) ──▶ every node
//	                                  │ LSDB
//	                                  ▼
//	      linkstate/spf: tree ─▶ linkstate/rib: RIB ─▶ policy overlay ─▶ FIB
//	                                  │
//	                                  ▼
//	      translator: Envoy resources ─▶ xds: delta ADS, ordered ─▶ Envoy ACK
//	                                  ▲
//	      scsc: telemetry in, policies out (type 4), which re-enter at the overlay
//
// Read linkstate/doc.go for the protocol core, internal/node/pipeline.go for
// the walk above as code, and translator/doc.go for the form the FIB has in
// Envoy.
//
// # This package
//
// Package dmsc holds only value types that every other package shares, and
// imports nothing but the standard library:
//
//	p, err := dmsc.ParsePrefix("Shop/Cart/1") // canonical: shop/cart/1
//	p.Covers(dmsc.MustParsePrefix("shop/cart/1/eu")) // true: containment is by segment
//	f, ok := p.Function()                            // shop/cart
package dmsc
