package translator

import (
	"strings"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// The names of the listeners and of the route tables they use.
const (
	ingressName = "dmsc/ingress"
	outsideName = "dmsc/outside"
	fabricName  = "dmsc/fabric"
	demoteName  = "dmsc/demote"
	probeName   = "dmsc/probe"
)

// helloPrefix is the name whose requests every FIB answers itself (design §3).
const helloPrefix = "dmsc/hello"

// What the names of clusters and virtual hosts begin with.
const (
	groupPrefix     = "dmsc/group/"
	neighbourPrefix = "dmsc/neighbour/"
	localPrefix     = "dmsc/local/"
	poolPrefix      = "dmsc/pool/"
	functionPrefix  = "dmsc/function/"
	policyPrefix    = "dmsc/policy/"
	aliasPrefix     = "dmsc/alias/"
	externalPrefix  = "dmsc/external/"
)

// Names of clusters and virtual hosts are injective in what they are made from
// and free of dots, which Envoy's stat tags are split at.

// GroupCluster names the cluster of a next-hop group.
func GroupCluster(g *rib.Group) string { return groupPrefix + g.Name }

// NeighbourCluster names the cluster that explicit paths reach a neighbour by,
// over all links to it.
func NeighbourCluster(id dmsc.NodeID) string { return neighbourPrefix + string(id) }

// probeClusterName names the cluster with the one far end of a link.
func probeClusterName(link linkstate.LinkKey) string { return probeName + "/" + link.String() }

// LocalCluster names the cluster of the local instances of a prefix.
func LocalCluster(p dmsc.ServicePrefix) string { return localPrefix + escape(p.String()) }

// poolCluster names the cluster of the local instances of several prefixes of
// one function.
func poolCluster(function dmsc.ServicePrefix) string {
	return poolPrefix + escape(function.String())
}

// policyHost names the virtual host of a steered prefix, and aliasHost that of
// an alias.
func policyHost(p dmsc.ServicePrefix) string { return policyPrefix + escape(p.String()) }
func aliasHost(a Alias) string               { return aliasPrefix + escape(strings.ToLower(a.Host)) }

// escape replaces dots by "!", which neither a service prefix nor a host has.
func escape(s string) string { return strings.ReplaceAll(s, ".", "!") }

// ProbePath is the path under which the probe listener reaches the far end of
// a link: /<neighbour>, or /<neighbour>/<link> for a link other than "0".
func ProbePath(link linkstate.LinkKey) string {
	if link.ID == "0" {
		return "/" + string(link.Remote)
	}
	return "/" + string(link.Remote) + "/" + string(link.ID)
}
