package featuretests

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/client"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

// design §5: "no healthy instance for 1 s → withdrawn".
func TestAnUnhealthyTargetIsWithdrawnAfterASecondAndComesBack(t *testing.T) {
	n := newNetwork(t, line1, line2)
	tg := n.target("a/1")
	n.leased("pod-1", "sg-1", time.Second, tg.Service) // renewed every 333 ms
	n.routed("sg-2", "a/1", "sr-1")
	tg.sick.Store(true)
	begun := time.Now()
	n.routed("sg-2", "a/1", "")
	if d := time.Since(begun); d < time.Second {
		t.Errorf("withdrawn after %v", d)
	}
	// Renewals do not make it healthy: it stays away until it says so itself.
	asks := tg.asks.Load()
	n.until("it has been asked again", func() error {
		if got := n.route("sg-2", "a/1"); got != "" {
			t.Fatalf("a/1 is reached by %q", got)
		}
		return when(tg.asks.Load() > asks, "it has not")
	})
	tg.sick.Store(false)
	n.routed("sg-2", "a/1", "sr-1")
}

// "announced" is what others can reach: an operator and a pod hear why it is not.
func TestAPodWhoseCheckFailsIsNotToldThatItIsAnnounced(t *testing.T) {
	n := newNetwork(t, line1, line2)
	well, tg := n.target("a/1"), n.target("b/1")
	tg.sick.Store(true)
	n.pod("pod-1", "sg-1", well.Service)
	p := n.pod("pod-2", "sg-1", tg.Service)
	p.hears("b/1", client.Announced) // for the grace
	at := fmt.Sprintf("127.0.0.1:%d", tg.Port)
	if st := p.hears("b/1", client.Pending); st.Code != "unhealthy" || !strings.Contains(st.Reason, "GET /healthz at "+at+": it answers 503;") {
		t.Errorf("the pod hears %+v", st)
	}
	n.routed("sg-2", "b/1", "")
	var faults []node.InstanceFault
	n.until("its status says so", func() error {
		s := n.nodes["sg-1"].Status()
		faults = s.InstanceFaults
		return when(s.PrefixCounts == node.PrefixCounts{Announced: 1, Unhealthy: 1} && len(faults) == 1 && s.InstanceFaultCount == 1, "%+v %+v", s.PrefixCounts, faults)
	})
	if f := faults[0]; f.Pod != "pod-2" || f.Prefix != "b/1" || f.Address != at || f.SinceSec < 1 || f.Why != "GET /healthz at "+at+": it answers 503" {
		t.Errorf("the fault is %+v", f)
	}
	tg.sick.Store(false)
	p.hears("b/1", client.Announced)
	n.routed("sg-2", "b/1", "sr-1")
	n.until("the fault is gone", func() error {
		s := n.nodes["sg-1"].Status()
		return when(s.PrefixCounts == node.PrefixCounts{Announced: 2} && s.InstanceFaultCount == 0, "%+v %+v", s.PrefixCounts, s.InstanceFaults)
	})
}

// What Envoy does not deliver does not become announced by failing.
func TestAFailingCheckUnderAPinIsTold(t *testing.T) {
	n := newNetwork(t, line1, line2)
	n.pod("pod-1", "sg-1", service("a/1"))
	n.everywhere("a/1")
	n.settled("sg-1")
	tg := n.target("b/1")
	p := n.pod("pod-2", "sg-1", tg.Service)
	n.everywhere("b/1")
	n.settled("sg-1")
	n.nodes["sg-1"].rollback("b/1")
	hears := func(code string) {
		t.Helper()
		n.until("the pod hears "+code, func() error {
			st := p.status("b/1")
			return when(st.State == client.Pending && st.Code == code, "it hears %+v", st)
		})
	}
	hears("gateway_pinned")
	tg.sick.Store(true)
	hears("unhealthy")
	tg.sick.Store(false)
	hears("gateway_pinned")
	states := p.history("b/1")
	if i := slices.Index(states, client.Announced); slices.Contains(states[i+1:], client.Announced) {
		t.Errorf("under the pin the pod has heard %v", states)
	}
}
