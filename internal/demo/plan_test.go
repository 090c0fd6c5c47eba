package demo

import (
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
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
	if p.victim != "sr-2" || !p.repaired {
		t.Errorf("victim %q, repaired by an alternate: %t", p.victim, p.repaired)
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
		{
			name: "a pod at the ingress is no way around",
			spec: "  nodes: [{name: sg-1, role: SG}, {name: sr-1, role: SR}, {name: sg-2, role: SG}]\n  links: [{a: sg-1, b: sr-1}, {a: sr-1, b: sg-2}]\n" +
				"  pods: [{name: p, gateway: sg-2, services: [{prefix: x/1}]}, {name: q, gateway: sg-1, services: [{prefix: x/1, metric: 100}]}]\n",
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

func TestWhatGrantsRefuseIsToldAndNotWaitedFor(t *testing.T) {
	for _, c := range []struct{ name, grants, allowed, refused string }{
		{"the topology's own", string(topology.Figure2().Grants()), "a/1 b/1 c/2 d/3 a/4 b/4", "pod-1 a/1-stolen"},
		{"a denial", grantsOf("{holder: pod-1, prefix: a/1}"), "a/1", "pod-1 b/1, pod-2 c/2, pod-3 d/3, pod-4 a/4, pod-4 b/4"},
		{"nothing to refuse", grantsOf("{holder: pod-1, prefix: a, scope: subtree}, {holder: pod-1, prefix: b, scope: subtree}, " +
			"{holder: pod-1, prefix: stolen}, {holder: pod-2, prefix: c, scope: subtree}, {holder: pod-2, prefix: stolen}, " +
			"{holder: pod-3, prefix: d, scope: subtree}, {holder: pod-3, prefix: stolen}, {holder: pod-4, prefix: a, scope: subtree}, " +
			"{holder: pod-4, prefix: b, scope: subtree}, {holder: pod-4, prefix: stolen}"), "a/1 b/1 c/2 d/3 a/4 b/4", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Topology: topology.Figure2(), Grants: []byte(c.grants)}
			authority, err := o.authority()
			if err != nil {
				t.Fatal(err)
			}
			var allowed, refused []string
			for _, p := range lab.Allowed(o.Topology, authority).Pods {
				for _, s := range p.Services {
					allowed = append(allowed, s.Prefix.String())
				}
			}
			for _, r := range refusals(o.Topology, authority) {
				refused = append(refused, r.pod+" "+r.prefix)
			}
			if a, r := strings.Join(allowed, " "), strings.Join(refused, ", "); a != c.allowed || r != c.refused {
				t.Errorf("allowed %q, refused %q; want %q, %q", a, r, c.allowed, c.refused)
			}
		})
	}
}

func grantsOf(grants string) string {
	return "apiVersion: dmsc.io/v1alpha1\nkind: PrefixGrants\nmetadata: {name: g}\nspec:\n  grants: [" + grants + "]\n"
}

func TestAPodWithoutServicesIsNoPanic(t *testing.T) {
	top := topology.Figure2()
	top.Pods[0].Services = nil
	authority, err := Options{Topology: top}.authority()
	if err != nil {
		t.Fatal(err)
	}
	if got := refusals(top, authority); len(got) != 1 || got[0].pod != "pod-2" {
		t.Errorf("%v", got)
	}
}

func TestADelayOfThePathIsNoReasonToLeaveIt(t *testing.T) {
	top := topology.Figure2()
	p, _ := choose(top)
	for i := range top.Links {
		top.Links[i].Delay = 15 * time.Millisecond
	}
	if got := delay(top, p.path); got != 30*time.Millisecond {
		t.Errorf("delay of %v: %s", p.path, got)
	}
	if text := string(policies(30 * time.Millisecond)); !strings.Contains(text, "{enter: 70ms, clear: 50ms}") {
		t.Error(text)
	}
}
