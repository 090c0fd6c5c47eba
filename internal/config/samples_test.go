package config

import (
	"path/filepath"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
	"github.com/dmsc-mesh/dmsc/spa"
)

var samples = filepath.Join("..", "..", "envoy-configs")

// The samples are what an operator starts from, so they load.
func TestSampleConfigsLoad(t *testing.T) {
	folder := filepath.Join(samples, "agents")
	for _, role := range []struct {
		name string
		want dmsc.Role
	}{{"sg-1", dmsc.RoleSG}, {"sr-1", dmsc.RoleSR}} {
		n, err := LoadNode(filepath.Join(folder, role.name+".yaml"), nil)
		if err != nil {
			t.Error(err)
		} else if string(n.Node) != role.name || n.Role != role.want || len(n.Links) == 0 {
			t.Errorf("%s.yaml is of %s, an %s with %d links", role.name, n.Node, n.Role, len(n.Links))
		}
	}
	if _, err := LoadSPA(filepath.Join(folder, "spa.yaml"), nil); err != nil {
		t.Error(err)
	}
	if _, err := LoadSCSC(filepath.Join(folder, "scsc.yaml"), nil); err != nil {
		t.Error(err)
	}
}

// The sample grants let every pod of the sample topology announce what it does
// there, and nobody else.
func TestSampleGrantsFitTheSampleTopology(t *testing.T) {
	grants, err := spa.LoadGrants(filepath.Join(samples, "grants-figure-2.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	topo, err := topology.Load(filepath.Join(samples, "topology-figure-2.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	generated, err := spa.ParseGrants("generated", topo.Grants())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []*spa.Authority{spa.NewAuthority(grants), spa.NewAuthority(generated)} {
		for _, owner := range topo.Pods {
			for _, asking := range topo.Pods {
				for _, s := range owner.Services {
					v := a.Judge(spa.Claim{Gateway: asking.Gateway, Pod: asking.Name, Prefixes: []string{s.Prefix.String()}})[0]
					if v.Granted != (owner.Name == asking.Name) {
						t.Errorf("%s asks for %s of %s: %+v", asking.Name, s.Prefix, owner.Name, v)
					}
				}
			}
		}
	}
}

func TestSamplePoliciesLoad(t *testing.T) {
	set, err := policy.Load(filepath.Join(samples, "policies"))
	if err != nil || len(set.Warnings) > 0 || len(set.Rules) != 2 {
		t.Errorf("%d rules, warnings %v, error %v", len(set.Rules), set.Warnings, err)
	}
}

func TestSampleDocumentsLoad(t *testing.T) {
	set, err := border.Load(filepath.Join(samples, "documents"))
	if err != nil || len(set.Aliases) == 0 || len(set.Externals) == 0 {
		t.Errorf("%+v, error %v", set, err)
	}
}
