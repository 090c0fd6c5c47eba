package translator

import (
	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// State is everything one node's Envoy configuration follows from.
type State struct {
	Node  dmsc.NodeID
	Role  dmsc.Role
	Addrs Addrs
	// RIB decides where each name goes.
	RIB *rib.RIB
	// Retired are groups that the RIB has used until lately: requests under way
	// still name their clusters when they are retried. Sorted by name.
	Retired []*rib.Group
	// Neighbours are the links of this node, up or not, sorted by (Remote, ID).
	Neighbours []Neighbour
	// Services are the local instances to deliver to, sorted by
	// (Prefix, Address). Several of one prefix share a cluster.
	Services []Service
	// Steering holds the ingress overlay of the SCSC, sorted by Prefix.
	Steering []Steering
	// Aliases let requests without a service prefix enter as one.
	Aliases []Alias
	// Strict has the ingress refuse what servers understand differently: header
	// names with an underscore and paths with an escaped slash.
	Strict bool
	// Externals let requests of pods leave the mesh.
	Externals []External
	// Outside is where clients that are not of the mesh enter.
	Outside OutsideListener
	// AccessLog is what Envoy writes about requests.
	AccessLog AccessLog
	// Closed lets no more clients in: the node is being taken out of service. Envoy
	// ends the connections it has as soon as nothing is under way on them.
	Closed bool
	// PodLimits bound what a name's local instances are given at a time.
	PodLimits PodLimits
	// OnDemand has Envoy fetch the cluster of a next-hop group at its first
	// request: for nodes of which most groups are never used.
	OnDemand bool
	// Source is by which streams Envoy takes what a resource refers to.
	Source Source
}

// Addrs are this node's own listening addresses, each "IP:port" or
// "unix:///path". Ingress is empty on an SR.
type Addrs struct {
	Ingress string
	Fabric  string
	Probe   string
	Admin   string
}

// Neighbour is the far end of one link.
type Neighbour struct {
	rib.NextHop // Weight is not used here
	// Data is the fabric address on this link, "IP:port" or "unix:///path"; ""
	// until the neighbour has said it.
	Data  string
	Class dmsc.LinkClass
	// Up is pushed to Envoy as the health status of the endpoint.
	Up bool
}

// PodLimits are the circuit breakers in front of the local instances of a name,
// all of them together; 0 is no limit worth the name (100,000). What is beyond
// one is answered 503 not-admitted at once, and repeated by nobody.
type PodLimits struct {
	Connections uint32
	Pending     uint32 // requests that wait for a connection
	Requests    uint32 // under way; of an HTTP/1.1 service the connections are the limit
}

// Service is one local instance of a prefix.
type Service struct {
	Prefix     dmsc.ServicePrefix
	Address    string // "IP:port" or "unix:///path"
	Protocol   dmsc.Protocol
	HealthPath string // "" = no active check (TCP: a connect check)
	Weight     uint32 // 0 means 1
}

// Steering sends a share of a name's requests along explicit paths. What the
// shares leave of 100 follows the ordinary FIB.
type Steering struct {
	Prefix   dmsc.ServicePrefix // an announced prefix or a function
	PolicyID string
	Paths    []WeightedPath
}

// WeightedPath is one explicit path from this node to an egress.
type WeightedPath struct {
	Nodes    []dmsc.NodeID // this node first, the egress last; 2..16
	Instance dmsc.ServicePrefix
	Weight   uint32 // of 100
}
