package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// An Envoy that is pinned to an earlier configuration delivers what that one
// delivers. Neighbours rely on what the node announces, so it announces no more
// than that, and no more than its pods announce now.

// needs are what must be known of a configuration as long as it may be gone back
// to: xds keeps it with the configuration.
type needs struct {
	groups   []*rib.Group // that it routes to
	delivers []delivery   // sorted by prefix
}

// delivery is a prefix that Envoy hands to pods of this node.
type delivery struct {
	Prefix   dmsc.ServicePrefix `json:"prefix"`
	Protocol dmsc.Protocol      `json:"protocol"`
}

// pin is what Envoy is pinned to. Immutable.
type pin struct {
	version, reason string
	*needs
}

// setOf is a translation as xds takes it.
func (n *Node) setOf(r translator.Resources, pub *publication) xds.Set {
	pub.needs = needsOf(pub, n.loop.publication)
	set := xds.SetOf(r)
	set.About = pub.needs
	for _, g := range pub.retired {
		set.Passing = append(set.Passing, translator.GroupCluster(g))
	}
	return set
}

// needsOf are those of a publication; last, nil for none, may be like it.
func needsOf(pub, last *publication) *needs {
	if last != nil && last.needs != nil && last.rib == pub.rib && last.offer == pub.offer {
		return last.needs
	}
	out := &needs{groups: pub.rib.Groups}
	for _, p := range pub.offer.prefixes {
		if e := entry(pub.rib, p.Prefix); e != nil && e.Local {
			out.delivers = append(out.delivers, delivery{p.Prefix, p.Protocol})
		}
	}
	return out
}

// split is what pods announce, parted by what Envoy delivers. Immutable.
type split struct {
	of        *offer
	under     *pin
	announced []linkstate.Prefix
	withheld  []dmsc.ServicePrefix // sorted
}

// split parts an offer. Without a pin, nil, all of it is announced.
func (p *pin) split(o *offer) split {
	out := split{of: o, under: p, announced: o.prefixes}
	if p == nil {
		return out
	}
	out.announced = nil
	for _, a := range o.prefixes {
		i, found := slices.BinarySearchFunc(p.delivers, a.Prefix, func(d delivery, p dmsc.ServicePrefix) int { return d.Prefix.Compare(p) })
		if found && p.delivers[i].Protocol == a.Protocol {
			out.announced = append(out.announced, a)
		} else {
			out.withheld = append(out.withheld, a.Prefix)
		}
	}
	return out
}

// tell corrects what pods are told of prefixes that are not announced.
func (s split) tell(statuses []prefixStatus) {
	if len(s.withheld) == 0 {
		return
	}
	withheld := make(map[string]bool, len(s.withheld))
	for _, p := range s.withheld {
		withheld[p.String()] = true
	}
	for i := range statuses {
		st := &statuses[i]
		if st.state == announced && withheld[st.prefix] {
			st.state, st.code = pending, "gateway_pinned"
			st.reason = "the gateway's Envoy is pinned to an earlier configuration, which does not deliver it; it is announced when that ends (dmsc xds resume)"
		}
	}
}

// first are the first of the withheld prefixes.
func (s split) first() (names []string) {
	for _, p := range s.withheld[:min(len(s.withheld), maxAlarms)] {
		names = append(names, p.String())
	}
	return names
}

// why is the reason of the pin, "" without one.
func (s split) why() string {
	if s.under == nil {
		return ""
	}
	return s.under.reason
}

// noteWithheld raises an alarm for as long as pods announce what this node does
// not.
func (n *Node) noteWithheld() {
	now, text := n.loop.split, ""
	if len(now.withheld) > 0 {
		text = fmt.Sprintf("not announced, because Envoy is pinned to %s, which does not deliver them: %s", now.under.version, strings.Join(now.first(), " "))
		if more := len(now.withheld) - maxAlarms; more > 0 {
			text += fmt.Sprintf(" +%d", more)
		}
	}
	n.standing("prefixes_withheld", text)
}
