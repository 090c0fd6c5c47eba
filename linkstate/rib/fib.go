package rib

import (
	"strconv"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Kind tells what an Entry's name is.
type Kind uint8

// The kinds of entries.
const (
	Announced Kind = iota // a prefix that a pod announced: covers what lies below
	Function              // the pool of the instances directly below: exact name only
	Node                  // dmsc/node/<id>: probes and end-to-end checks
)

// NextHop is a neighbour on one link.
type NextHop struct {
	linkstate.LinkKey
	Weight uint32 // share among the primaries of its group; at least 1
}

// Group is a set of next hops that many entries share: one Envoy cluster.
// Equal {Primaries, Backup} are the same group (design §4, Alternates).
type Group struct {
	// Name is injective in the members and free of dots: "sr-1", "sr-1+sr-2"
	// for equal costs, "sr-1~sr-2" with the alternate behind the tilde,
	// "sr-1#1" for link 1, "sr-1*3" for weight 3.
	Name      string
	Primaries []NextHop // sorted
	Backup    []NextHop // none or one
}

// ECMP reports whether the group has several primaries.
func (g *Group) ECMP() bool { return len(g.Primaries) > 1 }

// GroupName names the group with these members.
func GroupName(primaries, backup []NextHop) string {
	var b strings.Builder
	for i, h := range primaries {
		if i > 0 {
			b.WriteByte('+')
		}
		b.WriteString(h.String())
		if h.Weight > 1 {
			b.WriteByte('*')
			b.WriteString(strconv.FormatUint(uint64(h.Weight), 10))
		}
	}
	for _, h := range backup {
		b.WriteByte('~')
		b.WriteString(h.String())
	}
	return b.String()
}

// Entry is one name of the RIB with its best paths.
type Entry struct {
	Prefix     dmsc.ServicePrefix
	Kind       Kind
	Distance   dmsc.Metric   // to the best owners, their prefix metric included
	Egress     []dmsc.NodeID // the chosen owners, sorted; [own id] when Local
	Protocol   dmsc.Protocol
	ReplaySafe bool // of a function: all its instances are
	// Local: this node itself delivers it; Group is nil.
	Local bool
	Group *Group
	// NoBackup says why a non-local entry with one primary has no alternate.
	NoBackup string
	// Instances of a function that the chosen owners announce, sorted.
	Instances []dmsc.ServicePrefix
}

func (k Kind) String() string { return [...]string{"announced", "function", "node"}[k] }
