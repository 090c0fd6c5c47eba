package topology

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/manifest"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// TestTopologies shows for each file what it stands for, or what is wrong with
// it. The head of the document is added, so the input starts at line 4.
func TestTopologies(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			text := "apiVersion: dmsc.io/v1alpha1\nkind: Topology\nmetadata: {name: net}\n" + td.Input + "\n"
			topo, err := Parse("net.yaml", []byte(text))
			if err != nil {
				return err.Error()
			}
			switch td.Cmd {
			case "topology":
				return show(topo)
			case "view":
				return showView(topo.View(dmsc.NodeID(td.CmdArgs[0].Key)))
			}
			return "unknown command"
		})
	})
}

func show(t *Topology) string {
	var b strings.Builder
	for _, n := range t.Nodes {
		fmt.Fprintf(&b, "%s %s transit=%t ingress=%s fabric=%s admin=%s probe=%s\n", n.ID, n.Role, n.Transit, n.Ingress, n.Fabric, n.Admin, n.Probe)
	}
	for _, l := range t.Links {
		fmt.Fprintf(&b, "%s-%s#%s metric=%d/%d delay=%s bandwidth=%d class=%s tags=%v oneway=%t\n", l.A, l.B, l.ID, l.Metric, l.ReverseMetric, l.Delay, l.Bandwidth, l.Class, l.Tags, l.OneWay)
	}
	for _, p := range t.Pods {
		fmt.Fprintf(&b, "%s at %s\n", p.Name, p.Gateway)
		for _, s := range p.Services {
			fmt.Fprintf(&b, "  %s metric=%d preference=%d weight=%d %s %s:%d health=%s safe=%t\n", s.Prefix, s.Metric, s.Preference, s.Weight, s.Protocol, s.Address, s.Port, s.HealthPath, s.ReplaySafe)
		}
	}
	return b.String()
}

func showView(v *linkstate.View) string {
	if v == nil {
		return "no such node"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", v.Node, v.Role)
	for r := range v.Records.All() {
		switch c := r.Content.(type) {
		case *linkstate.NodeLSA:
			fmt.Fprintf(&b, "%s %s %s transit=%t\n", r.Key, r.Order, c.Role, c.Transit)
			for _, l := range c.Links {
				fmt.Fprintf(&b, "  %s#%s metric=%d delay=%s capacity=%d\n", l.Remote, l.ID, l.Metric, l.Delay, l.Capacity)
			}
		case *linkstate.PrefixLSA:
			fmt.Fprintf(&b, "%s %s\n", r.Key, r.Order)
			for _, p := range c.Prefixes {
				fmt.Fprintf(&b, "  %s metric=%d preference=%d weight=%d %s safe=%t\n", p.Prefix, p.Metric, p.Preference, p.Weight, p.Protocol, p.ReplaySafe)
			}
		}
	}
	for _, a := range v.Adjacencies {
		fmt.Fprintf(&b, "link %s %s %s metric=%d class=%s own=%s data=%s alive=%t rtt=%s\n", a.LinkKey, a.State, a.Role, a.Metric, a.Class, a.Fabric, a.Data, a.Alive, a.RTT)
	}
	return b.String()
}

func TestFigure2IsTheNetworkOfTheDesign(t *testing.T) {
	topo := Figure2()
	if len(topo.Nodes) != 7 || len(topo.Links) != 11 || len(topo.Pods) != 4 {
		t.Fatalf("%d nodes, %d links, %d pods; want 7, 11, 4", len(topo.Nodes), len(topo.Links), len(topo.Pods))
	}
	// Gateways reach each other only through routers.
	for _, l := range topo.Links {
		a, _ := topo.Node(l.A)
		b, _ := topo.Node(l.B)
		if a.Role == dmsc.RoleSG && b.Role == dmsc.RoleSG {
			t.Errorf("link %s-%s joins two gateways", l.A, l.B)
		}
		want := dmsc.Metric(10)
		if b.ID == "sr-2" && a.ID == "sr-1" || b.ID == "sr-3" && a.ID == "sr-2" {
			want = 15
		}
		if l.Metric != want || l.ReverseMetric != want {
			t.Errorf("link %s-%s has metric %d/%d, want %d", l.A, l.B, l.Metric, l.ReverseMetric, want)
		}
	}
	var announced []string
	for _, p := range topo.Pods {
		for _, s := range p.Services {
			announced = append(announced, fmt.Sprintf("%s/%s:%s", p.Gateway, p.Name, s.Prefix))
		}
	}
	if got, want := strings.Join(announced, " "), "sg-1/pod-1:a/1 sg-1/pod-1:b/1 sg-2/pod-2:c/2 sg-3/pod-3:d/3 sg-4/pod-4:a/4 sg-4/pod-4:b/4"; got != want {
		t.Errorf("announced %s\nwant %s", got, want)
	}
}

// The sample beside the other samples is the embedded file, so that an operator
// who edits it starts from what the demo runs.
func TestSampleTopologyIsTheEmbeddedOne(t *testing.T) {
	sample, err := os.ReadFile(filepath.Join("..", "..", "envoy-configs", "topology-figure-2.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if string(sample) != string(figure2) {
		t.Error("envoy-configs/topology-figure-2.yaml differs from internal/topology/figure-2.yaml; copy one over the other")
	}
}

// All nodes' views hold the same records, and the ends of every link agree.
func TestViewsAgree(t *testing.T) {
	topo := Figure2()
	first := topo.View("sg-1")
	for _, n := range topo.Nodes {
		v := topo.View(n.ID)
		if a, b := showView(&linkstate.View{Records: v.Records}), showView(&linkstate.View{Records: first.Records}); a != b {
			t.Errorf("%s sees other records than sg-1:\n%s", n.ID, a)
		}
		for _, a := range v.Adjacencies {
			far := topo.View(a.Remote)
			for _, back := range far.Adjacencies {
				if back.Remote == n.ID && back.ID == a.ID && (back.Data != a.Fabric || a.Data != back.Fabric) {
					t.Errorf("%s and %s disagree on the addresses of their link", n.ID, a.Remote)
				}
			}
		}
	}
	if topo.View("sg-9") != nil {
		t.Error("a view of a node that does not exist")
	}
}

func TestGrantsAllowEachPodItsPrefixesAtItsGateway(t *testing.T) {
	docs, err := manifest.Parse("grants.yaml", Figure2().Grants())
	if err != nil || len(docs) != 1 || docs[0].Kind != "PrefixGrants" {
		t.Fatalf("grants of figure 2: %v, %v", docs, err)
	}
	want := `    - {holder: "pod-4", prefix: "b/4", scope: exact, gateways: ["sg-4"]}`
	if !strings.Contains(string(Figure2().Grants()), want) {
		t.Errorf("grants:\n%s\nlack %s", Figure2().Grants(), want)
	}
	empty := &Topology{Name: "empty"}
	if _, err := manifest.Parse("grants.yaml", empty.Grants()); err != nil {
		t.Errorf("grants of a network without pods: %v", err)
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "empty.yaml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "empty.yaml: DMSC105") {
		t.Errorf("an empty file: %v", err)
	}
}
