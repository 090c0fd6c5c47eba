// Package peering carries type 2 signaling (draft §4.1, Service Prefix LSA)
// between the link-state cores of two neighbours: one gRPC stream per link,
// and the translation between the core's Go types and protobuf. It decides
// nothing; every message goes to the core and every message comes from it.
//
//	peers := peering.New(peering.Config{Log: log, Node: "sg-1", Domain: "lab", Deliver: n.deliver})
//	peers.Register(grpcServer) // made with peering.ServerOptions()
//	peers.SetLinks([]peering.Link{{Key: linkstate.LinkKey{Remote: "sr-1", ID: "0"}, Address: "10.0.0.2:17802"}})
//	go peers.Run(ctx)
//	// on the node's loop, after each Step or Tick:
//	peers.Send(ready.Messages)
//	peers.Reset(ready.Reset)
//
// # Who dials
//
// The lower NodeID dials the link, an observer dials everybody it observes. The
// answering side sends its NodeID in the response header ("dmsc-node"), so the
// dialling side knows whom it has reached before it says anything. The first
// message of the dialling side is a Hello; it tells the answering side which
// link the stream is. A stream of another domain, of a link that is not
// configured, or of a node that should have been dialled is refused with
// PermissionDenied.
//
// # Order
//
// Per link, Deliver sees StreamUp, then Received in the order of sending, then
// StreamDown, and nothing of a later stream before that. On the dialling side
// StreamUp means that the far end has answered, on the answering side that the
// first Hello has come (it follows as the first Received). A second stream of
// the same link replaces the first. What the core sends on a stream before its
// own Hello belongs to an earlier stream and is dropped.
//
// # What is not understood
//
// An unknown kind of message, a malformed message and a record that cannot even
// be named (origin, type, end of life) are counted (Stats), logged at most once
// a second, and left out; the adjacency stays. A record of an unknown type, or
// of a known one with a body that cannot be read or breaks a limit, is handed
// on with Content nil: every node keeps it and floods it on, so that all
// databases agree, and none makes anything of it. Only a message above
// MaxMessage ends its stream, because gRPC cannot skip it; the link is then
// dialled again.
package peering
