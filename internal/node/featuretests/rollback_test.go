package featuretests

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

// xds sends an order to the control socket, as dmsc xds does.
func (a *agent) xds(t *testing.T, method string, q url.Values) (h node.HistoryStatus, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = admin.Client{Address: node.ControlSocket(a.cfg.StateDir)}.Do(ctx, method, "/xds", q, &h)
	return h, err
}

// An operator goes back to what worked, and comes back when he likes.
func TestARollbackStaysUntilItIsEnded(t *testing.T) {
	n := newNetwork(t, line1, line2)
	n.pod("pod-1", "sg-1", service("a/1"))
	n.everywhere("a/1")
	sg2 := n.nodes["sg-2"]
	n.settled("sg-2")
	before := sg2.envoy.hosts("dmsc/ingress")
	n.pod("pod-2", "sg-1", service("b/1"))
	n.everywhere("b/1")
	n.settled("sg-2")
	after := sg2.envoy.hosts("dmsc/ingress")
	knows := func(name string) bool {
		return strings.Contains(sg2.envoy.routes("dmsc/ingress").String(), `"`+name+`/*"`)
	}
	if len(before) == 0 || !knows("b/1") {
		t.Fatalf("hosts %v, then %v", before, after)
	}

	h, err := sg2.xds(t, http.MethodGet, nil)
	if err != nil || len(h.Generations) < 2 || !h.Generations[0].Wanted || !h.Generations[0].Served || !h.Generations[0].Acked || h.Pinned != nil {
		t.Fatalf("%v: history %+v", err, h)
	}
	// The newest that does not know b/1 is the one before.
	if _, err := sg2.xds(t, http.MethodPut, url.Values{"to": {h.Generations[1].Version}, "reason": {"INC-204"}}); err != nil {
		t.Fatal(err)
	}
	n.until("Envoy runs what it ran before", func() error {
		s := sg2.Status().Envoy.XDS
		return when(!knows("b/1") && s.Converged, "%v, %+v", sg2.envoy.hosts("dmsc/ingress"), s)
	})
	s := sg2.Status()
	if p := s.Envoy.XDS.Pinned; p == nil || p.Version != h.Generations[1].Version || p.Reason != "INC-204" || p.Waiting != 1 || !s.Ready {
		t.Errorf("pinned %+v, ready %t: %v", p, s.Ready, s.NotReady)
	}
	if m := sg2.metrics(); !strings.Contains(m, "dmsc_xds_pinned 1") {
		t.Error("no metric tells that it is pinned")
	}
	// What comes now waits; liveness does not, and neither does the network.
	n.pod("pod-3", "sg-1", service("c/1"))
	n.routed("sg-2", "c/1", "sr-1")
	if h, err = sg2.xds(t, http.MethodGet, nil); err != nil || h.Pinned == nil || !slices.ContainsFunc(h.Generations, func(g node.GenerationStatus) bool { return g.Pinned && g.Served && g.Acked && !g.Wanted }) {
		t.Errorf("%v: history %+v", err, h)
	}
	if knows("c/1") {
		t.Error("a pinned Envoy was given something new")
	}
	if _, err := sg2.xds(t, http.MethodDelete, nil); err != nil {
		t.Fatal(err)
	}
	n.until("Envoy runs the newest", func() error { return when(knows("b/1") && knows("c/1"), "%v", sg2.envoy.hosts("dmsc/ingress")) })
	n.settled("sg-2")
	if m := sg2.metrics(); !strings.Contains(m, "dmsc_xds_pinned 0") || sg2.Status().Envoy.XDS.Pinned != nil {
		t.Error("it is still called pinned")
	}
}

// Of what has gone nobody can go back to, and a restart says what it has ended.
func TestARollbackEndsWithTheAgentWhichSaysSo(t *testing.T) {
	n := newNetwork(t, line1, line2)
	n.pod("pod-1", "sg-1", service("a/1"))
	n.everywhere("a/1")
	n.settled("sg-2")
	sg2 := n.nodes["sg-2"]
	var refused *admin.RefusedError
	if _, err := sg2.xds(t, http.MethodPut, url.Values{"to": {"nonsense"}}); !errors.As(err, &refused) || refused.Status != http.StatusBadRequest || !strings.Contains(refused.Text, "dmsc xds history") {
		t.Errorf("it says %v", err)
	}
	h, err := sg2.xds(t, http.MethodGet, nil)
	if err != nil || len(h.Generations) < 2 {
		t.Fatalf("%v: history %+v", err, h)
	}
	if _, err := sg2.xds(t, http.MethodPut, url.Values{"to": {h.Generations[1].Version}, "reason": {"INC-204"}}); err != nil {
		t.Fatal(err)
	}
	sg2.stop()
	sg2.start()
	n.settled("sg-2")
	s := sg2.Status()
	if len(s.Alarms) != 1 || s.Alarms[0].Code != "pin_lost" || !strings.Contains(s.Alarms[0].Text, h.Generations[1].Version+" (INC-204)") {
		t.Errorf("alarms %+v", s.Alarms)
	}
	sg2.stop()
	sg2.start()
	n.settled("sg-2")
	if s := sg2.Status(); len(s.Alarms) != 0 {
		t.Errorf("told again: %+v", s.Alarms)
	}
}
