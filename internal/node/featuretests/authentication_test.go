package featuretests

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/client"
	"github.com/dmsc-mesh/dmsc/spa"
)

// draft §4.2(2): "If the authentication fails, send the authentication failure
// notification".
func TestARefusalReachesThePodAndAppearsInNoLSDB(t *testing.T) {
	n := newNetwork(t, line1, line2)
	p := n.pod("pod-1", "sg-1", service("secret/1"), service("a/1"))
	s := p.hears("secret/1", client.Denied)
	if s.Code != string(spa.NotGranted) || !s.Final || s.Reason == "" {
		t.Errorf("the pod heard %+v", s)
	}
	// a/1 was announced in one breath with it: where it has arrived, the other
	// would have, too.
	n.routed("sg-2", "a/1", "sr-1")
	n.converged()
	for id, a := range n.nodes {
		if strings.Contains(a.lsdb(), "secret") {
			t.Errorf("the database of %s has the refused prefix:\n%s", id, a.lsdb())
		}
		if got := n.route(id, "secret/1"); got != "" {
			t.Errorf("%s reaches it by %q", id, got)
		}
	}
}

func TestWithoutSPANewPrefixesWaitAndOldOnesStay(t *testing.T) {
	n := newNetwork(t, line1, line2)
	n.pod("pod-1", "sg-1", service("a/1"))
	n.routed("sg-2", "a/1", "sr-1")
	n.spa.stop()
	n.until("sg-1 misses the SPA", func() error {
		if !n.nodes["sg-1"].Status().SPAAway {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	p := n.pod("pod-2", "sg-1", service("b/1"))
	n.until("the pod hears why it waits", func() error {
		if s := p.status("b/1"); s.State != client.Pending || s.Code != "spa_unavailable" {
			return fmt.Errorf("it heard %+v", s)
		}
		return nil
	})
	if got := n.route("sg-2", "a/1"); got != "sr-1" {
		t.Errorf("a/1 is reached by %q", got)
	}
	if strings.Contains(n.nodes["sg-1"].lsdb(), "b/1") {
		t.Errorf("b/1 is advertised unseen")
	}
	n.spa.start(everything...)
	p.hears("b/1", client.Announced)
	n.routed("sg-2", "b/1", "sr-1")
	if got := p.history("b/1"); !slices.Equal(got, []client.State{client.Pending, client.Announced}) {
		t.Errorf("the pod heard %v", got)
	}
}

func TestARestartWithoutSPAAnnouncesTheSameSet(t *testing.T) {
	n := newNetwork(t, line1, line2)
	p := n.pod("pod-1", "sg-1", service("a/1"), service("secret/1"))
	p.hears("a/1", client.Announced)
	p.hears("secret/1", client.Denied)
	n.routed("sg-2", "a/1", "sr-1")
	p.cutOff() // the pod does not help
	n.spa.stop()
	n.routed("sg-1", "a/1", "local")
	n.settled("sg-1")
	before := len(n.nodes["sg-1"].envoy.messages())
	n.nodes["sg-1"].stop()
	n.nodes["sg-1"].start()
	n.settled("sg-1")
	n.routed("sg-1", "a/1", "local")
	n.routed("sg-2", "a/1", "sr-1")
	// Its own old records would be adopted for the lease, whatever it knows. That
	// it knows is what its Envoy still delivers by, and what pods are told.
	if sent := n.nodes["sg-1"].envoy.messages()[before:]; len(sent) > 0 {
		t.Errorf("Envoy was sent %q", sent)
	}
	pods := []string{}
	for _, p := range n.nodes["sg-1"].Status().Pods {
		pods = append(pods, p.Prefix+" "+p.State)
	}
	if !slices.Equal(pods, []string{"a/1 announced", "secret/1 pending"}) {
		t.Errorf("sg-1 has %q", pods)
	}
	if strings.Contains(n.nodes["sg-1"].lsdb(), "secret") {
		t.Errorf("the restart advertises what was refused")
	}
}

// draft §4.2(2), pushed: the verdict on a live prefix changes.
func TestEditedGrantsWithdrawALivePrefixAndBringItBack(t *testing.T) {
	n := newNetwork(t, line1, line2)
	p := n.pod("pod-1", "sg-1", service("a/1"), service("b/1"))
	n.routed("sg-2", "a/1", "sr-1")
	n.routed("sg-2", "b/1", "sr-1")
	onlyB := spa.Grant{Holder: "pod-1", Prefix: dmsc.MustParsePrefix("b"), Scope: spa.Subtree}
	n.spa.Reload([]spa.Grant{onlyB})
	if s := p.hears("a/1", client.Denied); s.Code != string(spa.NotGranted) {
		t.Errorf("the pod heard %+v", s)
	}
	n.routed("sg-2", "a/1", "")
	n.routed("sg-2", "b/1", "sr-1")
	n.spa.Reload(everything)
	p.hears("a/1", client.Announced)
	n.routed("sg-2", "a/1", "sr-1")
	if got := p.history("b/1"); got[len(got)-1] != client.Announced || slices.Contains(got, client.Denied) {
		t.Errorf("of b/1 the pod heard %v", got)
	}
}
