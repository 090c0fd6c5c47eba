package featuretests

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/client"
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
	knows := sg2.knows
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

// rollback pins the agent to the newest configuration whose routes do not have a
// name, and waits until its Envoy runs that.
func (a *agent) rollback(without string) node.GenerationStatus {
	t := a.n.t
	t.Helper()
	h, err := a.xds(t, http.MethodGet, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range h.Generations[1:] {
		if _, err := a.xds(t, http.MethodPut, url.Values{"to": {g.Version}, "reason": {"INC-204"}}); err != nil {
			t.Fatal(err)
		}
		a.n.until("Envoy runs what it ran before", func() error {
			return when(a.Status().Envoy.XDS.Converged, "%+v", a.Status().Envoy.XDS)
		})
		if !a.knows(without) {
			return g
		}
	}
	t.Fatalf("all of %+v have %s", h.Generations, without)
	return node.GenerationStatus{}
}

// knows: the agent's Envoy routes a name.
func (a *agent) knows(name string) bool {
	return strings.Contains(a.envoy.routes("dmsc/ingress").String(), `"`+name+`/*"`)
}

// Neighbours must not send what a pinned Envoy cannot deliver, nor what is gone.
func TestAPinnedGatewayAnnouncesWhatItsEnvoyDelivers(t *testing.T) {
	n := newNetwork(t, line1, line2)
	pod1 := n.pod("pod-1", "sg-1", service("a/1"), service("a/2"))
	n.everywhere("a/1", "a/2")
	n.settled("sg-1")
	pod2 := n.pod("pod-2", "sg-1", service("b/1"))
	n.everywhere("b/1")
	n.settled("sg-1")
	sg1 := n.nodes["sg-1"]
	sg1.rollback("b/1")
	n.routed("sg-2", "b/1", "")
	n.routed("sg-2", "a/1", "sr-1")
	if st := pod2.hears("b/1", client.Pending); st.Code != "gateway_pinned" || !strings.Contains(st.Reason, "dmsc xds resume") {
		t.Errorf("the pod hears %+v", st)
	}
	s := sg1.Status()
	if p := s.Envoy.XDS.Pinned; p == nil || !slices.Equal(p.Withheld, []string{"b/1"}) || p.WithheldCount != 1 || s.PrefixCounts != (node.PrefixCounts{Announced: 2, Pending: 1}) {
		t.Errorf("pinned %+v; prefixes %+v", p, s.PrefixCounts)
	}
	if len(s.Alarms) != 1 || s.Alarms[0].Code != "prefixes_withheld" || !strings.HasSuffix(s.Alarms[0].Text, ": b/1") {
		t.Errorf("alarms %+v", s.Alarms)
	}
	// What comes waits with it. What speaks another protocol now is not what is delivered.
	tcp := service("c/1")
	tcp.Protocol = dmsc.TCP
	pod3 := n.pod("pod-3", "sg-1", tcp)
	pod3.hears("c/1", client.Pending)
	pod1.withdraw()
	n.routed("sg-2", "a/1", "")
	other := service("a/1")
	other.Protocol = dmsc.HTTP2
	n.pod("pod-1", "sg-1", other, service("a/2"))
	n.routed("sg-2", "a/2", "sr-1")
	n.until("three prefixes are withheld", func() error { // the SPA has been asked
		p := sg1.Status().Envoy.XDS.Pinned
		return when(slices.Equal(p.Withheld, []string{"a/1", "b/1", "c/1"}), "%+v", p)
	})

	// A restart changes nothing of it.
	sg1.stop()
	sg1.start()
	n.until("it is pinned again, and says why", func() error {
		x := sg1.Status().Envoy.XDS
		if x == nil || x.Pinned == nil {
			return errors.New("it is not pinned")
		}
		return when(x.Converged && x.Pinned.Reason == "INC-204" && slices.Equal(x.Pinned.Withheld, []string{"a/1", "b/1", "c/1"}), "%+v", x.Pinned)
	})
	n.routed("sg-2", "a/2", "sr-1")
	if got := n.route("sg-2", "b/1") + n.route("sg-2", "c/1") + n.route("sg-2", "a/1"); got != "" || sg1.knows("b/1") {
		t.Errorf("after the restart sg-2 goes by %q", got)
	}
	if _, err := sg1.xds(t, http.MethodDelete, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/1", "b/1", "c/1"} {
		n.routed("sg-2", name, "sr-1")
	}
	pod2.hears("b/1", client.Announced)
	n.settled("sg-1")
	if s := sg1.Status(); len(s.Alarms) != 0 {
		t.Errorf("alarms that are over: %+v", s.Alarms)
	}
}

// What is given under a pin has the newest endpoints, and is another version than
// the one that was rolled back to.
func TestThePinnedConfigurationIsTheOneThatIsAckedWithNewEndpoints(t *testing.T) {
	n := newNetwork(t, "sg-1 sr-1", "sg-1 sr-2", "sg-2 sr-1", "sg-2 sr-2")
	n.pod("pod-1", "sg-2", service("a/1"))
	n.routed("sg-1", "a/1", "sr-1 sr-2")
	n.settled("sg-1")
	n.pod("pod-2", "sg-2", service("b/1"))
	n.routed("sg-1", "b/1", "sr-1 sr-2")
	n.settled("sg-1")
	sg1 := n.nodes["sg-1"]
	to := sg1.rollback("b/1")
	sg1.envoy.set(func() { sg1.envoy.cut["/sr-1"] = true })
	n.routed("sg-1", "b/1", "sr-2")
	n.until("Envoy has accepted the new health", func() error {
		e := sg1.Status().Envoy
		return when(e.XDS.Converged && e.Acked != to.Version, "%+v", e)
	})
	h, err := sg1.xds(t, http.MethodGet, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range h.Generations {
		if is := g.Version == to.Version; g.Pinned != is || g.Served != is || g.Acked != is {
			t.Errorf("%+v", g)
		}
	}
	// There is no other way to it in the old routes than by the old groups: those have heard it.
	sg1.envoy.set(func() { sg1.envoy.cut["/sr-1"] = false })
	n.routed("sg-1", "b/1", "sr-1 sr-2")
}

// Envoy may refuse what it has run: its port is taken by now, it is another Envoy.
// It goes on with what it has, and nothing of now is blamed or suspended.
func TestAPinnedConfigurationThatEnvoyRefusesIsToldAndTheLastGoodStays(t *testing.T) {
	n := newNetwork(t, line1, line2)
	n.pod("pod-1", "sg-1", service("a/1"))
	n.everywhere("a/1")
	n.settled("sg-2")
	n.pod("pod-2", "sg-1", service("b/1"))
	n.everywhere("b/1")
	n.settled("sg-2")
	sg2 := n.nodes["sg-2"]
	sg2.envoy.set(func() { sg2.envoy.refuse = "dmsc/ingress" })
	h, err := sg2.xds(t, http.MethodGet, nil)
	if err == nil {
		_, err = sg2.xds(t, http.MethodPut, url.Values{"to": {h.Generations[1].Version}})
	}
	if err != nil {
		t.Fatal(err)
	}
	n.until("the refusal is told", func() error {
		h, err = sg2.xds(t, http.MethodGet, nil)
		return when(err == nil && len(h.Refusals) == 1, "%v: %+v", err, h)
	})
	if r := h.Refusals[0]; r.Resource != "dmsc/ingress" || r.Message != "dmsc/ingress: the words of Envoy" || !r.Running || len(r.Origins) > 0 {
		t.Errorf("%+v", r)
	}
	now, then := h.Generations[0], h.Generations[1]
	if !then.Pinned || !then.Served || then.Acked || !now.Acked || now.Served || !sg2.knows("b/1") {
		t.Errorf("now %+v, then %+v", now, then)
	}
	if s := sg2.Status(); s.Ready || len(s.Refusals) != 1 {
		t.Errorf("ready %t, refusals %+v", s.Ready, s.Refusals)
	}
	if _, err := sg2.xds(t, http.MethodDelete, nil); err != nil {
		t.Fatal(err)
	}
	n.settled("sg-2")
	if s := sg2.Status(); !s.Ready || len(s.Refusals) > 0 || !sg2.knows("b/1") {
		t.Errorf("ready %t, refusals %+v", s.Ready, s.Refusals)
	}
}

// Who goes back to what holds something that Envoy has refused before need not
// wait: Envoy is not asked again.
func TestAPinnedConfigurationOfWhichAPartWasRefusedBeforeIsRefusedAtOnce(t *testing.T) {
	n := newNetwork(t, line1, line2)
	n.pod("pod-2", "sg-2", service("c/1"))
	n.everywhere("c/1")
	n.settled("sg-2")
	sg2 := n.nodes["sg-2"]
	sg2.envoy.set(func() { sg2.envoy.refuse = "dmsc/ingress" })
	n.pod("pod-1", "sg-1", service("b/1"))
	refused := func(told string) (h node.HistoryStatus) {
		t.Helper()
		n.until("the refusal is told "+told, func() (err error) {
			h, err = sg2.xds(t, http.MethodGet, nil)
			return errors.Join(err, when(h.Refused && len(h.Refusals) == 1, "%+v", h))
		})
		return h
	}
	first := refused("when it comes")
	// Other endpoints, and the same table: another version.
	second := service("c/1")
	second.Port++
	n.pod("pod-3", "sg-2", second)
	n.until("the second pod is delivered to", func() error {
		return when(refused("before").Given != first.Given, "still %s", first.Given)
	})
	if _, err := sg2.xds(t, http.MethodPut, url.Values{"to": {first.Generations[0].Version}}); err != nil {
		t.Fatal(err)
	}
	if h := refused("to who goes back"); h.Refusals[0].Version == h.Given || h.Refusals[0].Times != 1 || h.Pinned == nil {
		t.Errorf("%+v", h)
	}
}

// Whatever is in the state folder, the agent starts; and it does not lose what it
// had pinned without a word.
func TestAPinThatIsLostIsTold(t *testing.T) {
	n := newNetwork(t, line1, line2)
	n.pod("pod-1", "sg-1", service("a/1"))
	n.everywhere("a/1")
	n.settled("sg-2")
	sg2 := n.nodes["sg-2"]
	file := filepath.Join(sg2.cfg.StateDir, "pin.gz")
	for name, spoil := range map[string]func(whole []byte) error{
		"corrupt": func(whole []byte) error {
			whole[len(whole)/2] ^= 1
			return os.WriteFile(file, whole, 0o600)
		},
		"cut off": func(whole []byte) error { return os.WriteFile(file, whole[:len(whole)-1], 0o600) },
		"empty":   func([]byte) error { return os.WriteFile(file, nil, 0o600) },
		"gone":    func([]byte) error { return os.Remove(file) },
	} {
		version := sg2.rollback("c/1").Version // nobody announces that
		sg2.stop()
		whole, err := os.ReadFile(file)
		if err == nil {
			err = spoil(whole)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sg2.start()
		n.settled("sg-2")
		s := sg2.Status()
		if len(s.Alarms) != 1 || s.Alarms[0].Code != "pin_lost" || !strings.Contains(s.Alarms[0].Text, version+" (INC-204)") || s.Envoy.XDS.Pinned != nil {
			t.Errorf("%s: alarms %+v, pinned %+v", name, s.Alarms, s.Envoy.XDS.Pinned)
		}
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the file is still there: %v", name, err)
		}
		sg2.stop()
		sg2.start()
		n.settled("sg-2")
		if s := sg2.Status(); len(s.Alarms) != 0 {
			t.Errorf("%s: told again: %+v", name, s.Alarms)
		}
		// Something to go back to.
		pod := n.pod("pod-2", "sg-1", service("b/1"))
		n.everywhere("b/1")
		n.settled("sg-2")
		pod.withdraw()
		n.routed("sg-2", "b/1", "")
		n.settled("sg-2")
	}
}

func TestAnOrderThatMakesNoSenseChangesNothing(t *testing.T) {
	n := newNetwork(t, line1)
	n.settled("sg-1")
	sg1 := n.nodes["sg-1"]
	for want, q := range map[string]url.Values{
		"dmsc xds history": {"to": {"nonsense"}},
		"300 bytes":        {"to": {"nonsense"}, "reason": {strings.Repeat("x", 300)}},
	} {
		var refused *admin.RefusedError
		if _, err := sg1.xds(t, http.MethodPut, q); !errors.As(err, &refused) || refused.Status != http.StatusBadRequest || !strings.Contains(refused.Text, want) || len(refused.Text) > 200 {
			t.Errorf("it says %v", err)
		}
	}
	if h, err := sg1.xds(t, http.MethodDelete, nil); err != nil || h.Pinned != nil || h.Warning != "" {
		t.Errorf("%v: %+v", err, h)
	}
}
