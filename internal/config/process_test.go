package config

import (
	"os"
	"path/filepath"
	"testing"
)

// An operator hands any file of ours to dmsc check.
func TestSettingsAreToldByTheirKeys(t *testing.T) {
	other := filepath.Join(t.TempDir(), "f.yaml")
	is := func(path string, want Process) {
		t.Helper()
		if got, err := ProcessOf(path); err != nil || got != want {
			t.Errorf("%s is of %q, error %v, want %q", path, got, err, want)
		}
	}
	for name, want := range map[string]Process{
		"agents/sg-1.yaml": NodeProcess, "agents/sr-1.yaml": NodeProcess, "agents/spa.yaml": SPAProcess, "agents/scsc.yaml": SCSCProcess,
		"bootstrap-sg.yaml": EnvoyProcess, "overlay-existing-envoy.yaml": EnvoyProcess,
		"topology-figure-2.yaml": "", "documents/aliases.yaml": "", "README.md": "",
	} {
		is(filepath.Join(samples, name), want)
	}
	for text, want := range map[string]Process{
		"node: sg-1": NodeProcess, "grants: g.yaml": SPAProcess, "policy_ttl: 10m": SCSCProcess, "node: scsc\nobserve: []": SCSCProcess,
		"grants: g.yaml\ndomain: d\nstate_dir: /tmp\nlisten: :1": SPAProcess, "node: sg-1\nnode: sg-1\nrole: SG": NodeProcess,
		"": "", "nothing: of ours": "", "kind: Topology\nnode: sg-1": "", "\tno: yaml": "",
	} {
		if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		is(other, want)
	}
	if _, err := ProcessOf(other + ".none"); err == nil {
		t.Error("a file that is missing is of a process")
	}
}
