// Package dmscv1 is the wire contract of DMSC: the four signaling types of
// draft §4.1 (Figure 3) as gRPC services.
//
//	type 1  AnnouncementService    pod → SG        announcement.proto
//	type 2  LinkStateService       SG, SR ↔ SG, SR lsa.proto
//	type 3  AuthenticationService  SG ↔ SPA        authentication.proto
//	type 4  QoSService             SG, SR ↔ SCSC   qos.proto
//
// The Go files are generated (make generate) and committed; nothing but the
// edges imports them. Field numbers are never reused, and a receiver ignores
// what it does not know.
package dmscv1
