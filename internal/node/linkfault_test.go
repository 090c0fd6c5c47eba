package node

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/peering"
)

// Who sees a link down is told which end to mend, and what.
func TestALinkThatIsDownSaysWhoseSettingsOrProcessIsToBlame(t *testing.T) {
	for want, a := range map[string]linkstate.Adjacency{
		"our own Envoy answers at 127.0.0.1:15901, which sr-1 gives for its own; correct fabric of the link to sg-1, or envoy.fabric, in the settings of sr-1": {State: linkstate.StateSynced, AnsweredBy: "sg-1", Data: "127.0.0.1:15901"},
		"the Envoy of sr-2 answers at 127.0.0.1:15901, which sr-1 gives":                                                                                       {State: linkstate.StateSynced, AnsweredBy: "sr-2", Data: "127.0.0.1:15901"},
		"held back for another 2.0s":              {State: linkstate.StateSynced, Alive: true, DampedUntil: t0.Add(2 * time.Second)},
		"start the agent within a minute":         {State: linkstate.StateHeld, Alive: true},
		"start the agent of sr-1":                 {State: linkstate.StateDown, Alive: true},
		"neither the agent nor the Envoy of sr-1": {State: linkstate.StateDown},
		"is the link configured at sr-1?":         {State: linkstate.StateInit},
		"databases":                               {State: linkstate.StateExchange},
		"write fabric for the link to sg-1":       {State: linkstate.StateSynced},
		"no Envoy answers at 127.0.0.1:15901":     {State: linkstate.StateSynced, Data: "127.0.0.1:15901"},
		"sr-1 does not take part":                 {State: linkstate.StateSynced, Alive: true},
	} {
		a.LinkKey, a.Since = linkstate.LinkKey{Remote: "sr-1", ID: "0"}, t0.Add(-time.Minute)
		view := &linkstate.View{Node: "sg-1", Adjacencies: []linkstate.Adjacency{a}}
		got := linkFaults(view, true, t0)
		if len(got) != 1 || !strings.Contains(got[0].Why, want) || got[0].SinceSec != 60 {
			t.Errorf("%+v, want %q", got, want)
		}
		if got := linkFaults(view, false, t0)[0].Why; got != "our own Envoy does not forward" && a.State == linkstate.StateSynced && a.AnsweredBy == "" && a.DampedUntil.IsZero() {
			t.Errorf("our Envoy is stopped: %s", got)
		}
		view.Drain = linkstate.DrainRemoved
		if got := linkFaults(view, true, t0)[0].Why; got != "this node is out of service" {
			t.Errorf("drained: %s", got)
		}
	}
	for node, want := range map[dmsc.NodeID]string{
		"sg-1": "the agent of sr-1 does not answer; start it, or correct dial",
		"sr-2": "the agent of sr-1 does not answer; start it, or correct dial in its settings",
	} {
		a := linkstate.Adjacency{LinkConfig: linkstate.LinkConfig{LinkKey: linkstate.LinkKey{Remote: "sr-1", ID: "0"}}}
		if got := linkFaults(&linkstate.View{Node: node, Adjacencies: []linkstate.Adjacency{a}}, false, t0)[0].Why; got != want {
			t.Errorf("at %s, which has no Envoy yet: %s", node, got)
		}
	}
	view := &linkstate.View{Adjacencies: []linkstate.Adjacency{{Observer: true}, {State: linkstate.StateFull}}}
	for range 2 * maxNames {
		view.Adjacencies = append(view.Adjacencies, linkstate.Adjacency{LinkConfig: linkstate.LinkConfig{LinkKey: linkstate.LinkKey{Remote: dmsc.NodeID("sr-1")}}})
	}
	if got := linkFaults(view, true, t0); len(got) != maxNames {
		t.Errorf("%d links are listed, at most %d are", len(got), maxNames)
	}
}

// Both ends were given their own address for the other's: each Envoy answers its
// own agent.
func TestAProbeThatOurselvesAnswerIsToldFromOneThatNobodyDoes(t *testing.T) {
	key := linkstate.LinkKey{Remote: "sr-1", ID: "0"}
	instance, err := linkstate.New(linkstate.Config{Node: "sg-1", Domain: "d", Role: dmsc.RoleSG, Incarnation: 1, Encode: peering.Encode}, t0)
	if err != nil {
		t.Fatal(err)
	}
	instance.Step(t0, linkstate.SetLinks{Links: []linkstate.LinkConfig{{LinkKey: key, Metric: 10}}})
	n := &Node{cfg: &config.Node{Node: "sg-1"}, metrics: newMetrics(), log: slog.New(slog.DiscardHandler), instance: instance, peers: peering.New(peering.Config{})}
	n.loop.qualities = map[linkstate.LinkKey]*quality{}
	for _, c := range []struct {
		peer  dmsc.NodeID
		alarm bool
		why   string
	}{{"", false, "neither the agent nor the Envoy"}, {"sg-1", true, "our own Envoy answers"}, {"sr-1", false, "its Envoy answers, its agent does not"}} {
		ok := c.peer == key.Remote // as the prober judges
		probed{Link: key, OK: ok, Peer: c.peer, RTT: time.Millisecond}.apply(n, t0)
		got := linkFaults(instance.View(), true, t0)[0].Why
		if !strings.HasPrefix(got, c.why) {
			t.Errorf("answered by %q: %s", c.peer, got)
		}
		n.noteLinks(instance.View())
		if n.noteLinks(instance.View()); len(n.loop.alarms) > 0 != c.alarm || c.alarm && (n.loop.alarms[0].Code != "unexpected_probe" || n.loop.alarms[0].Text != got || n.loop.alarms[0].Times != 1) {
			t.Errorf("answered by %q: alarms %v", c.peer, n.loop.alarms)
		}
	}
}

// One line for all links that flap, and none once they are good again.
func TestTheAlarmOfFlappingLinksEndsWithThem(t *testing.T) {
	n := &Node{metrics: newMetrics(), log: slog.New(slog.DiscardHandler)}
	view := func(flapping ...bool) *linkstate.View {
		v := &linkstate.View{Node: "sg-1"}
		for i, flaps := range flapping {
			key := linkstate.LinkKey{Remote: dmsc.NodeID(fmt.Sprint("sr-", i+1)), ID: "0"}
			v.Adjacencies = append(v.Adjacencies, linkstate.Adjacency{LinkConfig: linkstate.LinkConfig{LinkKey: key}, Flapping: flaps})
		}
		return v
	}
	for _, c := range []struct {
		view  *linkstate.View
		words string
	}{{view(false, false), ""}, {view(true, false), ": sr-1;"}, {view(true, true), ": sr-1 sr-2;"}, {view(false, true), ": sr-2;"}, {view(false, false), ""}} {
		n.noteLinks(c.view)
		switch all := n.loop.alarms; {
		case c.words == "" && len(all) > 0:
			t.Errorf("no link flaps, and it says %v", all)
		case c.words != "" && (len(all) != 1 || all[0].Code != "flapping_link" || !strings.Contains(all[0].Text, c.words)):
			t.Errorf("it says %v, want one alarm with %q", all, c.words)
		}
	}
}
