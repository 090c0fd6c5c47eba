package linkstate_test

import (
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
)

// In a crowded database a record comes in only once links lead to its node. If
// it comes before the record that says so, it is not lost until its origin
// refreshes it, which may take more than half an hour.
func TestACrowdedDatabaseGetsWhatCameTooEarly(t *testing.T) {
	n := linkstatetest.NewNetwork(1)
	crowded := func(c *linkstate.Config) { c.MaxRecords = 8 }
	n.AddNode("sr-0", dmsc.RoleSR, crowded)
	// sr-3 comes by its name before sr-4, over which it is reached, and sr-2
	// before sr-3.
	chain := []dmsc.NodeID{"sr-1", "sr-4", "sr-3", "sr-2"}
	for i, id := range chain {
		n.AddNode(id, dmsc.RoleSR)
		if i > 0 {
			n.AddLink(chain[i-1], id, linkstatetest.Link{})
		}
	}
	n.AddNode("far", dmsc.RoleSR)
	n.AddLink("sr-2", "far", linkstatetest.Link{})
	if v := n.Rest(10 * time.Second); v != nil {
		t.Fatal(v)
	}
	n.AddLink("sr-0", "sr-1", linkstatetest.Link{})
	if v := n.Rest(time.Minute); v != nil {
		t.Fatal(v)
	}
	if got := n.Instance("sr-0").View().Records.Len(); got != 6 {
		t.Errorf("%d records, 6 nodes have one each", got)
	}
}
