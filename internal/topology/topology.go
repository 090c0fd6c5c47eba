package topology

import (
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// Topology is a network with all defaults filled in.
type Topology struct {
	Name string
	// AvoidTags are the affinity tags of links that are a last resort, sorted.
	AvoidTags []string
	Nodes     []Node // in the order of the file, which gives the default ports
	Links     []Link
	Pods      []Pod
}

// Node is an SG or SR. Its addresses are "host:port"; Admin and Probe may be
// "unix:///path".
type Node struct {
	ID      dmsc.NodeID
	Role    dmsc.Role
	Transit bool
	Ingress string // pod-facing; "" on an SR
	Fabric  string
	Admin   string
	Probe   string
}

// Link is a link between two nodes.
type Link struct {
	A, B          dmsc.NodeID
	ID            dmsc.LinkID
	Metric        dmsc.Metric // from A to B
	ReverseMetric dmsc.Metric // from B to A
	Delay         time.Duration
	Bandwidth     uint64 // bit/s; 0 = unknown
	Class         dmsc.LinkClass
	Tags          []string
	// OneWay: only A declares it, so the two-way check finds no link.
	OneWay bool
}

// Pod is one pod, linked to one SG.
type Pod struct {
	Name     string
	Gateway  dmsc.NodeID
	Services []Service
}

// Service is one prefix that a pod announces.
type Service struct {
	Prefix     dmsc.ServicePrefix
	Metric     dmsc.Metric
	Preference uint32
	Weight     uint32 // at least 1
	Protocol   dmsc.Protocol
	Address    string
	Port       uint16
	HealthPath string // "" = no HTTP health check
	ReplaySafe bool
}

//go:embed figure-2.yaml
var figure2 []byte

// Figure2 is the network of the draft's Figure 2, with the pods of the demo.
func Figure2() *Topology {
	t, err := Parse("figure-2.yaml", figure2)
	if err != nil {
		panic(err) // embedded, and read by a test
	}
	return t
}

// Node returns the node with that id.
func (t *Topology) Node(id dmsc.NodeID) (Node, bool) {
	for _, n := range t.Nodes {
		if n.ID == id {
			return n, true
		}
	}
	return Node{}, false
}

// Grants returns a PrefixGrants document that allows each pod exactly the
// prefixes it has here, at its gateway.
func (t *Topology) Grants() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: dmsc.io/v1alpha1\nkind: PrefixGrants\nmetadata: {name: %q}\nspec:\n  grants:", t.Name)
	none := true
	for _, p := range t.Pods {
		for _, s := range p.Services {
			fmt.Fprintf(&b, "\n    - {holder: %q, prefix: %q, scope: exact, gateways: [%q]}", p.Name, s.Prefix, p.Gateway)
			none = false
		}
	}
	if none {
		b.WriteString(" []")
	}
	b.WriteByte('\n')
	return []byte(b.String())
}
