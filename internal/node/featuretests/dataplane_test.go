package featuretests

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// design §4: "Down on any of: own Envoy's xDS stream or process ends
// (neighbours are told at once)". sr-1 dies of three; the others go around.
func TestTheEndOfAnEnvoyTakesItsLinkFaultsAndItsReturnBringsThemBack(t *testing.T) {
	n := prepare(t, line1, line2, "sg-1 sr-2", "sg-2 sr-2")
	for _, a := range n.nodes {
		for i := range a.cfg.Links {
			a.cfg.Links[i].Class = dmsc.WAN // three missed probes take 1.5 s
		}
	}
	n.start()
	n.pod("pod-1", "sg-1", service("a/1"))
	n.routed("sg-2", "a/1", "sr-1 sr-2")
	begun := time.Now()
	n.nodes["sr-1"].envoy.kill()
	n.routed("sg-2", "a/1", "sr-2")
	if d := time.Since(begun); d >= 1500*time.Millisecond {
		t.Errorf("sg-2 knew after %v: it was not told, its probes have missed", d)
	}
	n.until("sg-2 knows why", func() error {
		for _, adj := range n.nodes["sg-2"].Status().Adjacencies {
			if adj.Neighbor == "sr-1" && adj.State == "synced" && !adj.Alive { // the agents still talk
				return nil
			}
		}
		return fmt.Errorf("its link is %s", n.nodes["sg-2"].adjacency("sr-1"))
	})
	if s := n.nodes["sr-1"].Status(); s.Ready || s.Envoy.DataPlane || s.Envoy.Acked != "" {
		t.Errorf("sr-1 without its Envoy says ready %t, data plane %t, acked %q", s.Ready, s.Envoy.DataPlane, s.Envoy.Acked)
	}
	n.nodes["sr-1"].envoy.start()
	n.routed("sg-2", "a/1", "sr-1 sr-2")
	n.converged()
}

// A link is alive when its data path is: what hangs up here is only the way to
// the far Envoy, agents and streams are well.
func TestAnUnansweredProbeTakesALinkFault(t *testing.T) {
	n := newNetwork(t, line1, line2, "sg-1 sr-2", "sg-2 sr-2")
	n.pod("pod-1", "sg-1", service("a/1"))
	n.routed("sg-2", "a/1", "sr-1 sr-2")
	e := n.nodes["sg-2"].envoy
	e.set(func() { e.cut["/sr-1"] = true })
	n.routed("sg-2", "a/1", "sr-2")
	if got := n.nodes["sg-1"].adjacency("sr-1"); got != "full" {
		t.Errorf("sg-1's link to sr-1 is %s", got)
	}
	e.set(func() { e.cut["/sr-1"] = false })
	n.routed("sg-2", "a/1", "sr-1 sr-2")
}

// design §6: "A NACK is state".
func TestARefusedConfigurationIsSeenAndTheNextGoodOneHeals(t *testing.T) {
	n := newNetwork(t, line1, line2)
	n.pod("pod-1", "sg-1", service("a/1"))
	n.everywhere("a/1")
	n.settled("sg-2")
	sg2 := n.nodes["sg-2"]
	good := sg2.Status().Envoy.Acked
	sg2.envoy.set(func() { sg2.envoy.refuse = "dmsc/ingress" })
	b := n.pod("pod-2", "sg-1", service("b/1"))
	n.until("sg-2 tells of the refusal", func() error {
		x := sg2.Status().Envoy.XDS
		if x == nil || x.LastNack == nil {
			return errors.New("no refusal is known")
		}
		if x.LastNack.Message != "dmsc/ingress: the words of Envoy" || !slices.Equal(x.LastNack.Resources, []string{"dmsc/ingress"}) || x.Phase != "rejected" {
			return fmt.Errorf("it says %+v in phase %s", *x.LastNack, x.Phase)
		}
		return nil
	})
	n.until("sg-2 is not ready, and forwards by the last good set", func() error {
		s := sg2.Status()
		return when(s.Envoy.Acked == good && !s.Ready && s.Envoy.DataPlane, "acked %q, want %q; ready %t, data plane %t", s.Envoy.Acked, good, s.Ready, s.Envoy.DataPlane)
	})
	// What it refused, and what that comes of, down to the record.
	bucket := linkstate.Key{Origin: "sg-1", Type: linkstate.TypePrefix, Fragment: linkstate.Bucket(dmsc.MustParsePrefix("b/1"))}
	refusals := sg2.Status().Refusals
	if len(refusals) != 1 || refusals[0].Type != "routes" || refusals[0].Resource != "dmsc/ingress" || !refusals[0].Running || refusals[0].Message != "dmsc/ingress: the words of Envoy" {
		t.Errorf("refusals %+v", refusals)
	} else if i := slices.IndexFunc(refusals[0].Origins, func(o node.OriginStatus) bool { return o.Name == "b/1" }); i < 0 || refusals[0].Origins[i].Text != "prefix b/1 of sg-1 ["+bucket.String()+"]" {
		t.Errorf("origins %+v", refusals[0].Origins)
	}
	if m := sg2.metrics(); !strings.Contains(m, `dmsc_xds_parked{type="routes"} 1`) || !strings.Contains(m, `dmsc_xds_nacks_total{type="routes"} 1`) {
		t.Errorf("the refusal is not counted in\n%s", m)
	}
	if hosts := fmt.Sprint(sg2.envoy.routes("dmsc/ingress")); !strings.Contains(hosts, "a/1") || strings.Contains(hosts, "b/1") {
		t.Errorf("Envoy runs %s", hosts)
	}
	if got := n.nodes["sg-1"].adjacency("sr-1"); got != "full" {
		t.Errorf("a refusal at sg-2 has cost a link elsewhere: %s", got)
	}
	// What it refuses has gone, and so the set is the good one again.
	b.withdraw()
	n.settled("sg-2")
	sg2.envoy.set(func() { sg2.envoy.refuse = "" })
	n.pod("pod-3", "sg-1", service("c/1"))
	n.routed("sg-2", "c/1", "sr-1")
	n.settled("sg-2")
	s := sg2.Status()
	if s.Envoy.XDS.LastNack == nil {
		t.Error("the refusal is forgotten; an operator may still want to read it")
	}
	if m := sg2.metrics(); len(s.Refusals) > 0 || !strings.Contains(m, `dmsc_xds_parked{type="routes"} 0`) {
		t.Errorf("healed, and still refused: %+v", s.Refusals)
	}
}

// A fresh Envoy holds nothing, whatever the last one had accepted.
func TestAnEnvoyThatStartsAnewIsGivenEverything(t *testing.T) {
	n := newNetwork(t, line1, line2)
	n.pod("pod-1", "sg-1", service("a/1"))
	n.everywhere("a/1")
	n.settled("sg-2")
	e := n.nodes["sg-2"].envoy
	before := e.hosts("dmsc/ingress")
	e.kill()
	n.routed("sg-2", "a/1", "")
	if s := n.nodes["sg-2"].Status(); s.Envoy.DataPlane || s.Envoy.Acked != "" {
		t.Errorf("sg-2 without its Envoy says %+v", s.Envoy)
	}
	e.start()
	n.routed("sg-2", "a/1", "sr-1")
	n.settled("sg-2")
	if after := e.hosts("dmsc/ingress"); !slices.Equal(after, before) || len(after) == 0 {
		t.Errorf("Envoy runs %v, before %v", after, before)
	}
}
