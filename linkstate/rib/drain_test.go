package rib_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// TestADrainedNodeIsUsedOnlyWhereThereIsNothingElse drains the better owner of
// a/1, which is the only one of b/1 and the shorter way to sg-3.
func TestADrainedNodeIsUsedOnlyWhereThereIsNothingElse(t *testing.T) {
	net := linkstatetest.NewNetwork(1)
	for _, id := range []dmsc.NodeID{"sg-1", "sg-2", "sg-3"} {
		net.AddNode(id, dmsc.RoleSG, func(c *linkstate.Config) { c.Transit = true })
	}
	net.AddLink("sg-1", "sg-2", linkstatetest.Link{Metric: 10})
	net.AddLink("sg-1", "sg-3", linkstatetest.Link{Metric: 10})
	net.AddLink("sg-2", "sg-3", linkstatetest.Link{Metric: 100})
	better := linkstatetest.Prefix("a/1")
	better.Preference = 7
	net.Announce("sg-1", better, linkstatetest.Prefix("b/1"))
	net.Announce("sg-2", linkstatetest.Prefix("a/1"))

	ways := func() string {
		var out []string
		for _, from := range []dmsc.NodeID{"sg-1", "sg-2", "sg-3"} {
			r := rib.Compute(net.Instance(from).View())
			for _, name := range []string{"a/1", "b/1", "dmsc/node/sg-3"} {
				for e := range r.All() {
					if e.Prefix.String() != name {
						continue
					}
					var via []string
					if e.Group != nil {
						for _, h := range e.Group.Primaries {
							via = append(via, h.LinkKey.String())
						}
					}
					out = append(out, fmt.Sprintf("%s: %s at %v by %v", from, name, e.Egress, via))
				}
			}
		}
		return strings.Join(out, "\n")
	}
	drain := func(level linkstate.Drain) {
		net.Step("sg-1", linkstate.SetDrain{Level: level})
		net.Run(time.Second)
	}
	expect := func(when, want string) {
		t.Helper()
		if got := ways(); got != strings.TrimSpace(want) {
			t.Errorf("%s:\n%s\nwant\n%s", when, got, want)
		}
	}
	const inService = `
sg-1: a/1 at [sg-1] by []
sg-1: b/1 at [sg-1] by []
sg-1: dmsc/node/sg-3 at [sg-3] by [sg-3]
sg-2: a/1 at [sg-1] by [sg-1]
sg-2: b/1 at [sg-1] by [sg-1]
sg-2: dmsc/node/sg-3 at [sg-3] by [sg-1]
sg-3: a/1 at [sg-1] by [sg-1]
sg-3: b/1 at [sg-1] by [sg-1]`
	net.Run(2 * time.Second)
	expect("in service", inService)
	drain(linkstate.DrainCost)
	expect("cost", `
sg-1: a/1 at [sg-2] by [sg-2]
sg-1: b/1 at [sg-1] by []
sg-1: dmsc/node/sg-3 at [sg-3] by [sg-3]
sg-2: a/1 at [sg-2] by []
sg-2: b/1 at [sg-1] by [sg-1]
sg-2: dmsc/node/sg-3 at [sg-3] by [sg-3]
sg-3: a/1 at [sg-2] by [sg-2]
sg-3: b/1 at [sg-1] by [sg-1]`)
	drain(linkstate.DrainRemoved)
	expect("removed", `
sg-1: a/1 at [sg-1] by []
sg-1: b/1 at [sg-1] by []
sg-2: a/1 at [sg-2] by []
sg-2: dmsc/node/sg-3 at [sg-3] by [sg-3]
sg-3: a/1 at [sg-2] by [sg-2]`)
	drain(linkstate.DrainNone)
	expect("back in service", inService)
}
