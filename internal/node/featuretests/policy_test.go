package featuretests

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/scsc"
	"github.com/dmsc-mesh/dmsc/xds"
)

// slowed is a network in which sg-1 reaches sg-2 by sr-1, which is slow, or at
// a higher cost by sr-2. a/1 is at sg-2; everything is known to the SCSC.
func slowed(t *testing.T, ttl time.Duration) *network {
	t.Helper()
	n := prepareSlowed(t, ttl)
	n.slow()
	return n
}

// prepareSlowed makes the network that slow starts.
func prepareSlowed(t *testing.T, ttl time.Duration) *network {
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
	return n
}

func (n *network) slow() {
	n.t.Helper()
	n.start()
	n.pod("pod-1", "sg-2", service("a/1"))
	n.routed("sg-1", "a/1", "sr-1")
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

// dictate is an SCSC that sends each node one set of policies and writes down
// what it hears.
type dictate struct {
	dmscv1.UnimplementedQoSServiceServer
	set map[string]*dmscv1.PolicySet // by node

	mu    sync.Mutex
	heard []string // "node policy state"
}

func (d *dictate) Session(s dmscv1.QoSService_SessionServer) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	node := first.GetHello().GetNode()
	err = s.Send(&dmscv1.SessionResponse{Kind: &dmscv1.SessionResponse_Plan{Plan: &dmscv1.ReportingPlan{Generation: 1, Interval: durationpb.New(time.Minute)}}})
	if set := d.set[node]; err == nil && set != nil {
		err = s.Send(&dmscv1.SessionResponse{Kind: &dmscv1.SessionResponse_Policies{Policies: set}})
	}
	for err == nil {
		var r *dmscv1.SessionRequest
		if r, err = s.Recv(); err == nil && r.GetPolicyStatus() != nil {
			st := r.GetPolicyStatus()
			d.mu.Lock()
			d.heard = append(d.heard, fmt.Sprintf("%s %s %s", node, st.GetPolicyId(), strings.ToLower(strings.TrimPrefix(st.GetState().String(), "POLICY_STATE_"))))
			d.mu.Unlock()
		}
	}
	return nil
}

func (d *dictate) hears(n *network, want string) {
	n.t.Helper()
	n.until("the SCSC hears "+want, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		return when(slices.Contains(d.heard, want), "it heard %q", d.heard)
	})
}

// What makes no sense is refused by itself: neither the other policies nor the
// FIB wait for it.
func TestAPolicyThatMakesNoSenseIsRefusedAlone(t *testing.T) {
	n := prepare(t, line1, line2)
	path := func(instance string) []*dmscv1.WeightedPath {
		return []*dmscv1.WeightedPath{{Nodes: []string{"sg-1", "sr-1", "sg-2"}, Instance: instance, Weight: 100}}
	}
	d := &dictate{set: map[string]*dmscv1.PolicySet{"sg-1": {Term: 1, Generation: 1, Ttl: durationpb.New(time.Minute), Policies: []*dmscv1.Policy{
		{Id: "wrong", Prefix: "b/1", Ingress: "sg-1", Paths: path("a/1")}, // no instance of b/1
		{Id: "good", Prefix: "a/1", Ingress: "sg-1", Paths: path("")},
		{Id: "second", Prefix: "a/1", Ingress: "sg-1", Paths: path("")},
	}}}}
	address := n.port()
	t.Cleanup(serve(t, address, func(g *grpc.Server) { dmscv1.RegisterQoSServiceServer(g, d) }))
	n.nodes["sg-1"].cfg.SCSC = config.Centres{Addresses: []string{address}}
	n.start()
	n.pod("pod-1", "sg-2", service("a/1"), service("b/1"))
	n.everywhere("a/1", "b/1")
	d.hears(n, "sg-1 good live")
	d.hears(n, "sg-1 wrong refused")
	d.hears(n, "sg-1 second refused")
	if got := n.pinned("sg-1"); got != ">sg-1>sr-1>sg-2>" {
		t.Errorf("Envoy pins %q", got)
	}
	n.pod("pod-2", "sg-2", service("c/1"))
	n.routed("sg-1", "c/1", "sr-1")
	n.settled("sg-1")
}

// A policy that Envoy refuses costs nobody else anything, and itself no more than
// its effect: the rest of the table is published without it.
func TestAPolicyThatEnvoyRefusesIsSuspendedAlone(t *testing.T) {
	n := prepare(t, line1, line2)
	path := []*dmscv1.WeightedPath{{Nodes: []string{"sg-1", "sr-1", "sg-2"}, Weight: 100}}
	d := &dictate{set: map[string]*dmscv1.PolicySet{"sg-1": {Term: 1, Generation: 1, Ttl: durationpb.New(time.Minute), Policies: []*dmscv1.Policy{
		{Id: "bad", Prefix: "b/1", Ingress: "sg-1", Paths: path},
		{Id: "good", Prefix: "a/1", Ingress: "sg-1", Paths: path},
	}}}}
	address := n.port()
	t.Cleanup(serve(t, address, func(g *grpc.Server) { dmscv1.RegisterQoSServiceServer(g, d) }))
	sg1 := n.nodes["sg-1"]
	sg1.cfg.SCSC = config.Centres{Addresses: []string{address}}
	sg1.envoy.refuseHost = "dmsc/policy/b/1"
	n.start()
	n.pod("pod-1", "sg-2", service("a/1"), service("b/1"))
	n.everywhere("a/1", "b/1")
	d.hears(n, "sg-1 bad refused")
	d.hears(n, "sg-1 good live")
	n.settled("sg-1") // nothing is parked any more
	hosts := sg1.envoy.hosts("dmsc/ingress")
	if !slices.Contains(hosts, "dmsc/policy/a/1") || slices.Contains(hosts, "dmsc/policy/b/1") {
		t.Errorf("Envoy runs %v", hosts)
	}
	s := sg1.Status()
	for _, p := range s.Policies {
		if p.ID == "bad" && p.Reason != "refused by Envoy: virtual host dmsc/policy/b/1: the words of Envoy" {
			t.Errorf("the reason is %q", p.Reason)
		}
	}
	if s.PolicyCounts.Live != 1 || s.PolicyCounts.Refused != 1 || len(s.Refusals) != 0 {
		t.Errorf("policies %+v, refusals %+v", s.PolicyCounts, s.Refusals)
	}
}

// The SCSC hears of the refusal, takes the policy back and issues it to nobody
// else; the name goes by plain SPF.
func TestARefusedPolicyIsHaltedEverywhere(t *testing.T) {
	n := prepareSlowed(t, time.Minute)
	sg1 := n.nodes["sg-1"]
	sg1.envoy.refuseHost = "dmsc/policy/a/1"
	n.slow()
	n.until("the SCSC has halted the policy", func() error {
		return when(n.scsc.happened("refused", "sg-1") && n.scsc.happened("halted", ""), "it has not")
	})
	n.policyIs("sg-1")
	n.settled("sg-1")
	if got := n.pinned("sg-1"); got != "" || n.route("sg-1", "a/1") != "sr-1" {
		t.Errorf("Envoy pins %q", got)
	}
	rows, err := n.scsc.Tables().Policies()
	if err != nil || len(rows) != 1 || rows[0].Rollout != scsc.RolloutHalted || rows[0].Stopped != "the rollout is halted until the policy is changed: refused by sg-1" {
		t.Errorf("%v, rows %+v", err, rows)
	}
}
