package main

import (
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// recordsOf is the page of the database that the nodes of a topology agree on.
func recordsOf(t *topology.Topology) (out []node.Record) {
	for r := range t.View(t.Nodes[0].ID).Records.All() {
		row := node.Record{Key: r.Key.String(), Origin: r.Origin, Order: r.Order.String()}
		switch c := r.Content.(type) {
		case *linkstate.NodeLSA:
			n := &node.NodeContent{Role: c.Role, Transit: c.Transit, Algorithm: c.Algorithm, AvoidTags: c.Avoid}
			for _, l := range c.Links {
				n.Links = append(n.Links, node.LinkContent{Neighbor: l.Remote, Link: l.ID, Metric: l.Metric, Tags: l.Tags})
			}
			row.Content = &node.Content{NodeContent: n}
		case *linkstate.PrefixLSA:
			p := &node.PrefixContent{}
			for _, x := range c.Prefixes {
				p.Prefixes = append(p.Prefixes, node.Announced{
					Prefix: x.Prefix.String(), Metric: x.Metric, Preference: x.Preference, Weight: x.Weight, Protocol: x.Protocol.String(), ReplaySafe: x.ReplaySafe,
				})
			}
			row.Content = &node.Content{PrefixContent: p}
		}
		out = append(out, row)
	}
	return out
}

const oddNetwork = `apiVersion: dmsc.io/v1alpha1
kind: Topology
metadata: {name: odd}
spec:
  avoidTags: [radio]
  nodes:
    - {name: sg-1, role: SG}
    - {name: sr-1, role: SR}
    - {name: sr-2, role: SR, transit: false}
    - {name: sr-3, role: SR}
    - {name: sg-2, role: SG}
  links:
    - {a: sg-1, b: sr-1, metric: 10, reverseMetric: 30}
    - {a: sg-1, b: sr-1, id: "1", metric: 20}
    - {a: sr-1, b: sg-2, tags: [radio]}
    - {a: sg-1, b: sr-2}
    - {a: sr-2, b: sg-2}
    - {a: sr-3, b: sg-1}
    - {a: sg-2, b: sr-3, metric: 50}
    - {a: sr-3, b: sg-2, id: "1", metric: 1, oneWay: true}
  pods:
    - {name: pod-1, gateway: sg-1, services: [{prefix: a/1}, {prefix: b/1}]}
    - {name: pod-2, gateway: sg-2, services: [{prefix: a/2, metric: 7}, {prefix: b/1, preference: 9}]}
`

// A network that was read of a database has the same future as the topology
// that the database came from.
func TestWhatifOfADatabaseIsThatOfItsTopology(t *testing.T) {
	t.Setenv(nodesEnv, "")
	dir := t.TempDir()
	writeFile(t, dir+"/odd.yaml", oddNetwork, 0o644)
	odd, err := topology.Load(dir + "/odd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		of      *topology.Topology
		file    string
		changes []string
	}{
		{topology.Figure2(), "", []string{"--fail-node sr-2", "--fail-link sg-1:sr-1,sg-1:sr-2", "--fail-node sg-4 --from sg-1", "--set-metric sr-1:sr-2=16", "--fail-link sr-9:sr-1"}},
		{odd, " -f " + dir + "/odd.yaml", []string{"--fail-node sr-3", "--fail-node sr-3,sr-1", "--fail-link sg-1:sr-3", "--fail-link sg-1:sr-1#0 --fail-node sr-3", "--set-metric sg-2:sr-3=1", "--fail-node sr-1 a/2"}},
	} {
		f := &fakeNode{about: about("sg-1"), records: always(recordsOf(c.of)...)}
		server := f.serve(t)
		moved := false
		for _, change := range c.changes {
			absent := nobody(t)
			live := command(t, "dmsc whatif --server "+absent+" --server "+server+" "+change)
			warning := "! warning: " + absent + ": cannot be reached: connect: connection refused\n"
			if !strings.Contains(live, warning) {
				t.Errorf("nothing is said of %s: %s", absent, live)
			}
			live = strings.Replace(live, warning, "", 1)
			live = strings.ReplaceAll(live, "of the database of sg-1", c.of.Name)
			offline := command(t, "dmsc whatif"+c.file+" "+change)
			if live != offline {
				t.Errorf("%s of the database:\n%s\nof the topology:\n%s", change, live, offline)
			}
			moved = moved || strings.Contains(offline, " moved ")
		}
		if !moved {
			t.Errorf("nothing moves in %s", c.of.Name)
		}
	}
}

// What a database holds of nodes that are gone or half there is no network.
func TestRecordsThatLeadNowhereAreNoLinks(t *testing.T) {
	got, err := topologyOfRecords("x", []node.Record{
		nodeRecord("sr-1", "1.1", linkTo("sr-2", 10), linkTo("sr-9", 10)),
		nodeRecord("sr-2", "1.1", linkTo("sr-1", dmsc.LastResort)),
		{Key: "sr-9.node", Origin: "sr-9", Tombstone: true},
	})
	if err != nil || len(got.Nodes) != 2 || len(got.Links) != 1 || got.Links[0].OneWay || got.Links[0].ReverseMetric != dmsc.LastResort {
		t.Errorf("%+v %v", got, err)
	}
}
