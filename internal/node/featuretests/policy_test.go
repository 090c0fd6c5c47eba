package featuretests

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/xds"
)

// slowed is a network in which sg-1 reaches sg-2 by sr-1, which is slow, or at
// a higher cost by sr-2. a/1 is at sg-2; everything is known to the SCSC.
func slowed(t *testing.T, ttl time.Duration) *network {
	t.Helper()
	n := prepare(t, "sg-1 sr-1", "sg-2 sr-1", "sg-1 sr-2", "sg-2 sr-2")
	for _, a := range n.nodes {
		for i := range a.cfg.Links {
			if a.id == "sr-2" || a.cfg.Links[i].Neighbor == "sr-2" {
				a.cfg.Links[i].Metric = 20
			}
		}
	}
	n.withSCSC(ttl, "sg-1", "sg-2")
	for _, end := range []struct {
		at   dmsc.NodeID
		path string
	}{{"sg-1", "/sr-1"}, {"sr-1", "/sg-1"}} {
		n.nodes[end.at].envoy.slow[end.path] = 60 * time.Millisecond
	}
	n.start()
	n.pod("pod-1", "sg-2", service("a/1"))
	n.routed("sg-1", "a/1", "sr-1")
	return n
}

// policies are "id state" at a node, without the number in the id.
func (n *network) policies(id dmsc.NodeID) (out []string) {
	for _, p := range n.nodes[id].Status().Policies {
		_, name, _ := strings.Cut(p.ID, "/")
		out = append(out, name+" "+p.State)
	}
	return out
}

func (n *network) policyIs(id dmsc.NodeID, want ...string) {
	n.t.Helper()
	n.until(fmt.Sprintf("%s has the policies %q", id, want), func() error {
		got := n.policies(id)
		return when(slices.Equal(got, want), "it has %q", got)
	})
}

// pinned is the dmsc-path that a node's Envoy gives to requests for a/1.
func (n *network) pinned(id dmsc.NodeID) string {
	for _, v := range n.nodes[id].envoy.routes("dmsc/ingress").GetVirtualHosts() {
		if v.GetName() != "dmsc/policy/a/1" {
			continue
		}
		_, path, _ := strings.Cut(v.String(), ">sg-1>")
		path, _, _ = strings.Cut(path, `"`)
		return ">sg-1>" + path
	}
	return ""
}

// draft §5(3): telemetry, threshold, decision, policy, overlay.
func TestASlowLinkIsReportedAndSteeredAround(t *testing.T) {
	n := slowed(t, time.Minute)
	n.until("the SCSC knows the slow link from both ends", func() error {
		rows, err := n.scsc.Tables().Links()
		if err != nil {
			return err
		}
		slow := 0
		for _, r := range rows {
			is := r.Node == "sg-1" && r.Link.Remote == "sr-1" || r.Node == "sr-1" && r.Link.Remote == "sg-1"
			if r.RTTMedian >= 60*time.Millisecond != (is && r.RTTMedian > 0) {
				return fmt.Errorf("%s reports %+v", r.Node, r.LinkReport)
			}
			if r.RTTMedian >= 60*time.Millisecond {
				slow++
			}
		}
		return when(slow == 2, "%d ends report it", slow)
	})
	n.policyIs("sg-1", "quick/sg-1/a/1 live")
	if got := n.pinned("sg-1"); got != ">sg-1>sr-2>sg-2>" {
		t.Errorf("Envoy pins %q", got)
	}
	if got := n.route("sg-1", "a/1"); got != "sr-1" {
		t.Errorf("the FIB itself has changed to %q", got)
	}
	if got := n.nodes["sg-1"].adjacency("sr-1"); got != "full" {
		t.Errorf("slow is not dead, but the link is %s", got)
	}
	n.until("the SCSC knows that it is live", func() error {
		return when(n.scsc.happened("live", "sg-1"), "it does not")
	})
}

func TestAPolicyIsReportedLiveOnlyWhenEnvoyHasAcceptedIt(t *testing.T) {
	n := slowed(t, time.Minute)
	e := n.nodes["sg-1"].envoy
	answer := make(chan struct{})
	e.set(func() { e.silent[xds.Routes] = answer })
	n.until("Envoy is sent the policy, or something before it, and is silent", func() error {
		return when(slices.Equal(n.policies("sg-1"), []string{"quick/sg-1/a/1 accepted"}), "policies are %q", n.policies("sg-1"))
	})
	// The SCSC hears of it in order: a status of sg-1 that is newer than this one.
	n.until("the SCSC has issued it", func() error { return when(n.scsc.happened("issued", "sg-1"), "it has not") })
	if n.scsc.happened("live", "sg-1") {
		t.Error("the SCSC was told that the policy is live, and Envoy has not accepted it")
	}
	e.set(func() { delete(e.silent, xds.Routes) })
	close(answer)
	n.policyIs("sg-1", "quick/sg-1/a/1 live")
	n.until("the SCSC hears it", func() error { return when(n.scsc.happened("live", "sg-1"), "it does not") })
	if n.pinned("sg-1") == "" {
		t.Error("Envoy does not have it")
	}
}

// design §8: "at expiry traffic returns to SPF".
func TestPoliciesOutliveTheSCSCForTheirTTL(t *testing.T) {
	n := slowed(t, 700*time.Millisecond)
	n.policyIs("sg-1", "quick/sg-1/a/1 live")
	begun := time.Now()
	n.scsc.stop()
	n.policyIs("sg-1")
	if d := time.Since(begun); d < 300*time.Millisecond { // a heartbeat came at most TTL/3 before
		t.Errorf("the policies went %v after the SCSC; their TTL is 700ms", d)
	}
	n.until("Envoy is back to plain SPF", func() error { return when(n.pinned("sg-1") == "", "it pins %q", n.pinned("sg-1")) })
	if got := n.route("sg-1", "a/1"); got != "sr-1" {
		t.Errorf("a/1 is reached by %q", got)
	}
}

// design §5, Steering: "The ingress re-verifies each pin on every LSDB change
// and suspends it at once", with nobody's help.
func TestAPolicyWhosePathIsLostIsSuspendedAndComesBack(t *testing.T) {
	n := slowed(t, time.Minute)
	n.policyIs("sg-1", "quick/sg-1/a/1 live")
	n.scsc.stop()
	n.nodes["sr-2"].envoy.kill()
	n.policyIs("sg-1", "quick/sg-1/a/1 suspended")
	n.until("Envoy does not pin it", func() error { return when(n.pinned("sg-1") == "", "it pins %q", n.pinned("sg-1")) })
	if p := n.nodes["sg-1"].Status().Policies[0]; !strings.Contains(p.Reason, "there is no two-way link") {
		t.Errorf("the reason is %q", p.Reason)
	}
	n.nodes["sr-2"].envoy.start()
	n.policyIs("sg-1", "quick/sg-1/a/1 live")
}
