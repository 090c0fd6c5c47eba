package demo

import (
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/topology"
)

func TestFigure2TellsOfB4FromSG1(t *testing.T) {
	p, ok := choose(topology.Figure2())
	if !ok {
		t.Fatal("no story")
	}
	if p.ingress != "sg-1" || p.prefix != dmsc.MustParsePrefix("b/4") || !p.safe {
		t.Errorf("the story is about %s from %s, replay-safe %t", p.prefix, p.ingress, p.safe)
	}
	if got := joinNodes(p.path, " "); got != "sg-1 sr-2 sg-4" {
		t.Errorf("path %s", got)
	}
	if p.victim != "sr-2" {
		t.Errorf("victim %q", p.victim)
	}
	if p.slow != [2]dmsc.NodeID{"sg-1", "sr-2"} {
		t.Errorf("slow link %v", p.slow)
	}
}

func TestAStoryIsToldOfWhatATopologyHas(t *testing.T) {
	const head = "apiVersion: dmsc.io/v1alpha1\nkind: Topology\nmetadata: {name: t}\nspec:\n"
	for _, c := range []struct {
		name, spec, path, victim string
		told                     bool
	}{
		{
			name: "a chain can lose nothing",
			spec: "  nodes: [{name: sg-1, role: SG}, {name: sr-1, role: SR}, {name: sg-2, role: SG}]\n  links: [{a: sg-1, b: sr-1}, {a: sr-1, b: sg-2}]\n" +
				"  pods: [{name: p, gateway: sg-2, services: [{prefix: x/1}]}]\n",
			told: true, path: "sg-1 sr-1 sg-2",
		},
		{
			name: "a gateway alone delivers to its own pod",
			spec: "  nodes: [{name: sg-1, role: SG}]\n  links: []\n  pods: [{name: p, gateway: sg-1, services: [{prefix: x/1}]}]\n",
			told: true, path: "sg-1",
		},
		{
			name: "without pods there is no request",
			spec: "  nodes: [{name: sg-1, role: SG}, {name: sr-1, role: SR}]\n  links: [{a: sg-1, b: sr-1}]\n  pods: []\n",
		},
		{
			name: "equal paths protect each other: nobody is killed",
			spec: "  nodes: [{name: sg-1, role: SG}, {name: sr-1, role: SR}, {name: sr-2, role: SR}, {name: sg-2, role: SG}]\n" +
				"  links: [{a: sg-1, b: sr-1}, {a: sg-1, b: sr-2}, {a: sr-1, b: sg-2}, {a: sr-2, b: sg-2}]\n" +
				"  pods: [{name: p, gateway: sg-2, services: [{prefix: x/1}]}]\n",
			told: true, path: "sg-1 sr-1 sg-2",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			top, err := topology.Parse("t.yaml", []byte(head+c.spec))
			if err != nil {
				t.Fatal(err)
			}
			p, told := choose(top)
			if told != c.told || joinNodes(p.path, " ") != c.path || string(p.victim) != c.victim {
				t.Errorf("told %t, path %q, victim %q; want %t, %q, %q", told, joinNodes(p.path, " "), p.victim, c.told, c.path, c.victim)
			}
		})
	}
}
