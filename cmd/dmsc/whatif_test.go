package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator/envoysim"
)

// Whatif says of each pair what the RIBs of all nodes say, before and after, and
// what the Envoys of all nodes do in between, though it has neither.
func TestWhatifSaysWhatAllRIBsAndAllEnvoysSay(t *testing.T) {
	seen := make(map[string]int)
	forNetworks(t, 3, func(t *testing.T, rng *rand.Rand, topo *topology.Topology) {
		link := topo.Links[rng.IntN(len(topo.Links))]
		ends := fmt.Sprintf("%s:%s", link.A, link.B)
		for _, f := range []whatifFlags{
			{links: []string{ends}},
			{failed: []string{string(topo.Nodes[rng.IntN(len(topo.Nodes))].ID)}},
			{failed: []string{string(topo.Pods[rng.IntN(len(topo.Pods))].Gateway)}}, // its own names are lost for certain
			{metrics: []string{ends + "=500"}},
		} {
			compareWhatif(t, topo, f, seen)
		}
	})
	if seen["moved"] == 0 || seen["lost"] == 0 {
		t.Errorf("effects %v: the networks are too good", seen)
	}
}

// compareWhatif counts the effects in seen.
func compareWhatif(t *testing.T, topo *topology.Topology, f whatifFlags, seen map[string]int) {
	t.Helper()
	c, err := f.change(topo)
	if err != nil {
		t.Fatal(err)
	}
	got, err := whatif(c, nil, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	effects := make(map[string]pairEffect)
	for _, e := range got.Effects {
		effects[string(e.Gateway)+" "+e.Name] = e
		seen[e.Effect]++
	}
	before, err := simulated(c.before, nil)
	if err != nil {
		t.Fatal(err)
	}
	before.Dead = c.refuses(before)
	after := make(map[dmsc.NodeID]*rib.RIB)
	for _, n := range c.after.Nodes {
		after[n.ID] = rib.Compute(c.after.View(n.ID))
	}
	pairs := 0
	requestsOf(before, func(from dmsc.NodeID, was *rib.Entry) {
		pairs++
		name := was.Prefix.String()
		is := after[from].Lookup(name)
		if slices.Contains(c.failed, from) {
			is = nil
		}
		e, there := effects[string(from)+" "+name]
		switch {
		case !there && is != nil && is.Distance == was.Distance && edges(before.ribs, from, name) == edges(after, from, name):
			return
		case !there, (e.Effect == "lost") != (is == nil):
			t.Errorf("%v: %s from %s is %q", c.what, name, from, e.Effect)
			return
		case e.Before.Distance != was.Distance || !slices.Equal(e.Before.Egress, was.Egress):
			t.Errorf("%v: %s from %s was at %d by %v, want %d by %v", c.what, name, from, e.Before.Distance, e.Before.Egress, was.Distance, was.Egress)
		case is != nil && (e.After.Distance != is.Distance || !slices.Equal(e.After.Egress, is.Egress)):
			t.Errorf("%v: %s from %s is at %d by %v, want %d by %v", c.what, name, from, e.After.Distance, e.After.Egress, is.Distance, is.Egress)
		}
		if slices.Contains(c.failed, from) {
			return
		}
		s, err := before.Walk(from, "dmsc/ingress", requestFor(was.Prefix), envoysim.Heaviest)
		if err != nil {
			t.Fatal(err)
		}
		until := fmt.Sprintf("%d %s", s.Reply.Status, s.Reply.Error())
		if s.Pod != "" {
			until = fmt.Sprint("answered ", passed(s))
		}
		if told := strings.TrimSpace(e.Until + " " + strings.TrimPrefix(fmt.Sprint(e.UntilPath), "[]")); told != until {
			t.Errorf("%v: %s from %s meets %s at once, want %s", c.what, name, from, told, until)
		}
	})
	if got.Pairs != pairs || got.Lost+got.Moved+got.Kept != pairs {
		t.Errorf("%d pairs, want %d: %d lost, %d moved, %d as before", got.Pairs, pairs, got.Lost, got.Moved, got.Kept)
	}
	cut, err := whatif(c, nil, nil, 5)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Effects); len(cut.Effects) != min(n, 5) || cut.Omitted != n-len(cut.Effects) || cut.Lost != got.Lost || cut.Moved != got.Moved {
		t.Errorf("of %d effects %d are listed, %d omitted; %d lost and %d moved, want %d and %d", n, len(cut.Effects), cut.Omitted, cut.Lost, cut.Moved, got.Lost, got.Moved)
	}
	for _, e := range cut.Effects {
		if e.Effect != "lost" && got.Lost >= 5 {
			t.Errorf("%s from %s is listed before what is lost", e.Name, e.Gateway)
		}
	}
}

// edges are all links that requests for a name may take from a node on.
func edges(ribs map[dmsc.NodeID]*rib.RIB, from dmsc.NodeID, name string) string {
	var out []string
	seen := map[dmsc.NodeID]bool{from: true}
	for todo := []dmsc.NodeID{from}; len(todo) > 0; todo = todo[1:] {
		e := ribs[todo[0]].Lookup(name)
		if e == nil || e.Local {
			out = append(out, fmt.Sprint(todo[0], e != nil))
			continue
		}
		for _, h := range e.Group.Primaries {
			out = append(out, fmt.Sprint(todo[0], ">", h.LinkKey))
			if !seen[h.Remote] {
				seen[h.Remote] = true
				todo = append(todo, h.Remote)
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// A name below a prefix is answered by the prefix, as in dmsc explain, and one
// that nothing answers is a slip of the pen.
func TestWhatifTakesAnyNameThatAPrefixAnswers(t *testing.T) {
	t.Setenv(nodesEnv, "")
	for line, want := range map[string]string{
		"b/4/x":  "sg-1     b/4/x  moved   20 sg-1 sr-2 sg-4 for b/4  sg-1 sr-1 sr-3 sg-4  30 sg-1 sr-1 sr-3 sg-4 for b/4\n",
		"B/4/":   "sg-1     B/4/  moved   20 sg-1 sr-2 sg-4 for b/4",
		"c/99/x": `no gateway has a prefix for "c/99/x" in topology figure-2`,
		"bb/4":   "did you mean b/4?",
	} {
		if got := command(t, "dmsc whatif --fail-node sr-2 --from sg-1 "+line); !strings.Contains(got, want) {
			t.Errorf("%s:\n%s\nwant %s", line, got, want)
		}
	}
}

// A network is planned before pods are there, and all of one may fail.
func TestWhatifTakesNetworksWithoutNamesOrNodes(t *testing.T) {
	t.Setenv(nodesEnv, "")
	const nodes = "apiVersion: dmsc.io/v1alpha1\nkind: Topology\nmetadata: {name: bare}\nspec:\n" +
		"  nodes: [{name: sg-1, role: SG}, {name: sr-1, role: SR}]\n  links: [{a: sg-1, b: sr-1, metric: 10}]\n"
	file := filepath.Join(t.TempDir(), "bare.yaml")
	for pods, want := range map[string]string{
		"": "0 pairs of gateway and name: 0 moved, 0 lost",
		"  pods: [{name: p, gateway: sg-1, services: [{prefix: a/1, port: 80}]}]\n": "2 pairs of gateway and name: 0 moved, 2 lost",
	} {
		writeFile(t, file, nodes+pods, 0o600)
		if got := command(t, "dmsc whatif -f "+file+" --fail-node sg-1,sr-1"); !strings.Contains(got, want) {
			t.Errorf("%s\nhas not %s", got, want)
		}
	}
}
