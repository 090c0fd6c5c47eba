package main

import (
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/lab/labtest"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/translator/envoysim"
)

// What an Envoy says of itself is explained as the topology is that it was
// made of, up to the next node, of which there is no word.
func TestExplainTakesWhatAnEnvoyRuns(t *testing.T) {
	dir := shortTempDir(t)
	t.Chdir(dir)
	ip := "127.91.3.7"
	writeFile(t, "net.yaml", movedFigure2(ip, dir), 0o644)
	text := output(t, "translate", "-f", "net.yaml", "--node", "sg-1")
	writeFile(t, "sg-1.yaml", string(text), 0o644)
	running := labtest.StartEnvoy(t, lab.EnvoyConfig{Name: "envoy", Bootstrap: "sg-1.yaml", Admin: dir + "/sg-1.admin"})
	dump, err := running.ConfigDump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, "sg-1.json", string(dump), 0o644)

	offline := strings.Split(string(output(t, "explain", "-f", "net.yaml", "--node", "sg-1", "b/4")), "\n\n2 ")[0]
	dumped := command(t, "dmsc explain --config-dump sg-1.json --node sg-1 b/4")
	for line := range strings.Lines(offline) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "because" || name == "try" || strings.HasPrefix(name, "priority") {
			continue // reasons and names are not in the dump
		}
		if !strings.Contains(dumped, strings.TrimRight(line, "\n")) {
			t.Errorf("%q is not in\n%s", line, dumped)
		}
	}
	if want := "! dmsc: the request goes on to " + ip + ":15951, of which there is no config_dump here\nexit 1\n"; !strings.HasSuffix(dumped, want) {
		t.Errorf("%s\ndoes not end with %s", dumped, want)
	}
	writeFile(t, "half.json", `{"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": {"node": {"id": "sg-1"}}}]}`, 0o644)
	if got := command(t, "dmsc explain --config-dump half.json --node sg-1 b/4"); got != "! dmsc: half.json: config_dump: there are no endpoints in it: ask for /config_dump?include_eds\nexit 2\n" {
		t.Error(got)
	}

	// The same from its agent, whose neighbour is known at that address.
	sg1 := &fakeNode{about: about("sg-1"), lookups: map[string]node.Lookup{"b/4": {
		Published: &node.EntryStatus{Prefix: "b/4", Kind: "announced", Distance: 20, Egress: []dmsc.NodeID{"sg-4"}, NextHops: []string{"sr-2"}, Backup: []string{"sr-1"}},
		Steering:  []node.SteeringStatus{{PolicyID: "p-1", Paths: []node.PathStatus{{Nodes: []dmsc.NodeID{"sg-1", "sr-1", "sg-4"}, WeightPercent: 30}}}},
	}}, dump: string(dump), adjacencies: []node.AdjacencyStatus{{Neighbor: "sr-2", Data: ip + ":15951"}}}
	sr2 := &fakeNode{about: about("sr-2"), dump: `{"configs": []}`}
	ask := "dmsc explain --node sg-1 b/4 --server " + sg1.serve(t)
	for _, c := range []struct{ line, end string }{
		{ask, "which has not been asked: name it with --server\nexit 1\n"},
		{ask + " --server " + sr2.serve(t), "of which nothing is known: the Envoy of sr-2: config_dump: there is no bootstrap with a node.id in it\nexit 2\n"},
	} {
		live := command(t, c.line)
		because := "  because  b/4 announced, of sg-4 at distance 20, by sr-2, alternate sr-1"
		if !strings.Contains(offline, because+"\n") || !strings.Contains(live, because+", steered by policy p-1, 30% along sg-1>sr-1>sg-4\n") {
			t.Errorf("%s\nhas not the reason of the topology and the policy, %s", live, because)
		}
		want := "! dmsc: the request goes on to sr-2 at " + ip + ":15951, " + c.end
		if !strings.HasSuffix(live, want) || !strings.Contains(live, "  try      sr-2 at "+ip+":15951\n") {
			t.Errorf("%s\ndoes not end with %s", live, want)
		}
	}
}

// A host outside the mesh hears nothing of the mesh, and behind a CONNECT no
// headers at all; the explanation does not pretend otherwise.
func TestExplainShowsWhatAHostOutsideGets(t *testing.T) {
	topo := topology.Figure2()
	views := topo.Views()
	o := newOffline(topo)
	state := offlineState(topo, views("sg-1"), rib.Compute(views("sg-1")))
	state.Externals = []translator.External{
		{Name: "web", Host: "web.example", Port: 80, Protocol: dmsc.HTTP1, Endpoints: []string{"192.0.2.1"}},
		{Name: "db", Host: "db.example", Port: 5432, Protocol: dmsc.TCP, Endpoints: []string{"192.0.2.2"}},
	}
	sg1, err := envoy(state)
	if err == nil {
		o.Network, err = envoysim.NewNetwork(map[dmsc.NodeID]*envoysim.Node{"sg-1": sg1})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		explainFlags
		want string
	}{
		{explainFlags{at: "sg-1", method: "GET", path: "/", authority: "web.example", headers: []string{"accept=*/*"}}, "\nanswer 200 of 192.0.2.1:80, which gets\n  accept: */*\n"},
		{explainFlags{at: "sg-1", method: "CONNECT", path: "/", authority: "db.example:5432"}, "\nanswer 200, and from then on the bytes of 192.0.2.2:5432, which gets the client's and no headers\n"},
	} {
		r, err := c.request("")
		if err != nil {
			t.Fatal(err)
		}
		e, err := explain(o, &c.explainFlags, r)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if err := printExplanation(&text, e); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(text.String(), c.want) {
			t.Errorf("%s\ndoes not end with %s", text.String(), c.want)
		}
	}
}
