package linkstate

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/dmsc-mesh/dmsc"
)

// Algorithm is what link metrics mean; one per domain.
type Algorithm uint8

// The metric algorithms.
const (
	AlgorithmIGP   Algorithm = 0 // as configured
	AlgorithmDelay Algorithm = 1 // least measured delay of 30 s, in steps of 0.5 ms; see delay.go
)

// How many tags a link or a node may have, and how many bytes each. The same
// goes for the attributes of a prefix.
const (
	MaxTags = 16
	MaxTag  = 255
)

// ParseAlgorithm reads igp or delay.
func ParseAlgorithm(s string) (Algorithm, error) {
	switch s {
	case "igp":
		return AlgorithmIGP, nil
	case "delay":
		return AlgorithmDelay, nil
	}
	return 0, fmt.Errorf("algorithm %q is not one of igp, delay", s)
}

// String returns igp or delay, for an algorithm of a later version its number.
func (a Algorithm) String() string {
	switch a {
	case AlgorithmIGP:
		return "igp"
	case AlgorithmDelay:
		return "delay"
	}
	return fmt.Sprint(uint8(a))
}

// MarshalText implements encoding.TextMarshaler by String.
func (a Algorithm) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler by ParseAlgorithm.
func (a *Algorithm) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAlgorithm(string(b))
	return err
}

// Prevailing returns the metric algorithm of a domain, which is what most nodes
// announce; of equally many the lower number, then the lower tags (docs/adr/0005).
func Prevailing(nodes iter.Seq[*NodeLSA]) (Algorithm, []string) {
	type choice struct {
		algorithm Algorithm
		avoid     string
	}
	votes := make(map[choice]int)
	tags := make(map[choice][]string)
	var best choice
	for n := range nodes {
		c := choice{n.Algorithm, strings.Join(n.Avoid, "\x00")}
		votes[c]++
		tags[c] = n.Avoid
	}
	for c, n := range votes {
		if cmp.Or(cmp.Compare(n, votes[best]), cmp.Compare(best.algorithm, c.algorithm), cmp.Compare(best.avoid, c.avoid)) > 0 {
			best = c
		}
	}
	return best.algorithm, tags[best]
}

// compareAlgorithms says so when a node does not compute as we do.
func (i *Instance) compareAlgorithms(node dmsc.NodeID, n *NodeLSA) {
	if n.Algorithm != i.cfg.Algorithm || !slices.Equal(n.Avoid, i.cfg.Avoid) {
		i.alarmOtherAlgorithm(node, describeAlgorithm(n.Algorithm, n.Avoid), describeAlgorithm(i.cfg.Algorithm, i.cfg.Avoid))
	}
}

func (i *Instance) alarmOtherAlgorithm(node dmsc.NodeID, theirs, ours string) {
	i.alarmOnce(string(node), AlarmOtherAlgorithm, "%s uses the metric algorithm %s, this node %s: the one that fewer nodes of the domain use is a last resort for transit; configure them alike", node, theirs, ours)
}

func describeAlgorithm(a Algorithm, avoid []string) string {
	if len(avoid) == 0 {
		return a.String()
	}
	return fmt.Sprintf("%s avoiding %s", a, strings.Join(avoid, ", "))
}
