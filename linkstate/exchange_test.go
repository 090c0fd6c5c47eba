package linkstate_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
)

// In a large network some record is always on its way. A lost one is found all
// the same, and what is on its way is not taken for lost.
func TestDigestsFindALostRecordWhileOthersAreOnTheirWay(t *testing.T) {
	n := linkstatetest.NewNetwork(1)
	n.AddNode("sg-1", dmsc.RoleSG)
	n.AddNode("sr-1", dmsc.RoleSR)
	n.AddNode("sg-2", dmsc.RoleSG)
	n.AddLink("sg-1", "sr-1", linkstatetest.Link{Delay: 25 * time.Millisecond})
	n.AddLink("sg-2", "sr-1", linkstatetest.Link{Delay: 25 * time.Millisecond})
	lost := linkstate.Key{Origin: "sg-1", Type: linkstate.TypePrefix, Fragment: linkstate.Bucket(dmsc.MustParsePrefix("lost/1"))}
	losses := 0
	n.Tamper = func(from dmsc.NodeID, e linkstate.Envelope) linkstate.Message {
		u, ok := e.Message.(*linkstate.LSUpdate)
		if !ok || from != "sr-1" || losses > 0 {
			return e.Message
		}
		records := slices.DeleteFunc(slices.Clone(u.Records), func(l *linkstate.LSA) bool { return l.Key == lost })
		losses += len(u.Records) - len(records)
		return &linkstate.LSUpdate{Seq: u.Seq, Records: records}
	}
	n.Run(5 * time.Second)
	sent := n.Traffic().Records
	n.Announce("sg-1", linkstatetest.Prefix("lost/1"))
	found := time.Duration(0)
	const changes = 60 * 100
	for c := range changes {
		name := linkstatetest.Prefix(fmt.Sprintf("a/%d", c%1000))
		if linkstate.Bucket(name.Prefix) != lost.Fragment {
			n.Replace("sg-1", linkstatetest.Prefix("lost/1"), name)
		}
		n.Replace("sg-2", linkstatetest.Prefix(fmt.Sprintf("b/%d", c%1000)))
		n.Run(10 * time.Millisecond)
		if found == 0 && n.Instance("sg-2").View().Records.Get(lost) != nil {
			found = time.Duration(c) * 10 * time.Millisecond
		}
	}
	sent = n.Traffic().Records - sent
	if losses == 0 {
		t.Fatal("nothing was lost")
	}
	if found == 0 || found > 10*time.Second {
		t.Errorf("the lost record was found after %s", found)
	}
	t.Logf("%d records for %d changes, found after %s", sent, 2*changes, found)
	for _, id := range n.Nodes() {
		for _, a := range n.Alarms(id) {
			t.Errorf("%s: %s: %s", id, a.Code, a.Text)
		}
	}
}
