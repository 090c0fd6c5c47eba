package compose

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
	"github.com/dmsc-mesh/dmsc/spa"
)

// composed is the part of docker-compose.yml that the node files repeat.
type composed struct {
	Services map[string]struct {
		Networks any `yaml:"networks"`
	} `yaml:"services"`
}

// address returns the fixed address of a node on a network, nil for none.
func (c composed) address(node dmsc.NodeID, network string) any {
	networks, _ := c.Services[string(node)+"-envoy"].Networks.(map[string]any)
	attachment, _ := networks[network].(map[string]any)
	return attachment["ipv4_address"]
}

// TestNodeFilesAreFigure2AtTheAddressesOfTheContainers checks what a typing
// error in fourteen link entries would break only when containers run.
func TestNodeFilesAreFigure2AtTheAddressesOfTheContainers(t *testing.T) {
	data, err := os.ReadFile("docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var compose composed
	if err := yaml.Unmarshal(data, &compose); err != nil {
		t.Fatal(err)
	}

	figure := topology.Figure2()
	want := map[string]dmsc.Metric{} // "node neighbor" → metric
	for _, l := range figure.Links {
		want[fmt.Sprintf("%s %s", l.A, l.B)] = l.Metric
		want[fmt.Sprintf("%s %s", l.B, l.A)] = l.Metric
	}
	got := map[string]dmsc.Metric{}
	for _, n := range figure.Nodes {
		node, err := config.LoadNode(filepath.Join("config", "node", string(n.ID)+".yaml"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if node.Node != n.ID || node.Role != n.Role {
			t.Errorf("the file of %s configures %s %s", n.ID, node.Role, node.Node)
		}
		for _, l := range node.Links {
			got[fmt.Sprintf("%s %s", node.Node, l.Neighbor)] = l.Metric
			ends := []dmsc.NodeID{node.Node, l.Neighbor}
			slices.Sort(ends)
			network := fmt.Sprintf("%s-%s", ends[0], ends[1])
			if address := fmt.Sprintf("%v:15901", compose.address(node.Node, network)); l.Fabric != address {
				t.Errorf("%s: link to %s: fabric is %s, that node is at %s", node.Node, l.Neighbor, l.Fabric, address)
			}
			if address := fmt.Sprintf("%v:17802", compose.address(l.Neighbor, network)); node.Node < l.Neighbor && l.Dial != address {
				t.Errorf("%s: link to %s: dial is %s, that node is at %s", node.Node, l.Neighbor, l.Dial, address)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("links (-Figure 2 +node files):\n%s", diff)
	}
}

func TestCentreFilesLoad(t *testing.T) {
	if _, err := config.LoadSPA("config/spa.yaml", nil); err != nil {
		t.Error(err)
	}
	if _, err := config.LoadSCSC("config/scsc.yaml", nil); err != nil {
		t.Error(err)
	}
	if _, err := spa.LoadGrants("config/grants"); err != nil {
		t.Error(err)
	}
	if set, err := policy.Load("config/policies"); err != nil || len(set.Warnings) > 0 {
		t.Error(err, set.Warnings)
	}
}
