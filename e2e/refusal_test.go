package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/lab/labtest"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

// A real Envoy refuses a listener whose port somebody else has. dmsc status says
// so with the setting that it comes of, and when the port is free nothing has to
// be restarted. Then one goes back to an earlier configuration, and on again.
func TestARefusedListenerIsToldAndHealsAndARollbackIsToldAndEnds(t *testing.T) {
	dir, err := os.MkdirTemp(root, "")
	if err != nil {
		t.Fatal(err)
	}
	holder, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	fabric := holder.Addr().String()
	ingress, err := lab.HoldPort()
	if err != nil {
		t.Fatal(err)
	}
	defer ingress.Close()
	health := "unix://" + filepath.Join(dir, "health.sock")
	documents := filepath.Join(dir, "documents")
	config, err := json.Marshal(map[string]any{
		"node": "sg-1", "role": "SG", "domain": "lab", "state_dir": dir, "documents": documents,
		"listen": map[string]any{"api": "127.0.0.1:0", "peering": "127.0.0.1:0", "health": health},
		"envoy":  map[string]any{"ingress": ingress.Addr(), "fabric": fabric},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sg-1.json")
	alias := func(host string) {
		t.Helper()
		text := "apiVersion: dmsc.io/v1alpha1\nkind: HostAlias\nmetadata: {name: " + strings.ReplaceAll(host, ".", "-") + "}\nspec: {hosts: [" + host + "], prefix: a/1}\n"
		if err := os.WriteFile(filepath.Join(documents, host+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(documents, 0o700); err != nil {
		t.Fatal(err)
	}
	alias("one.example")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	bootstrap, err := exec.Command(binary, "bootstrap", "--config", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "envoy.yaml"), bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	group := lab.NewGroup()
	t.Cleanup(func() { _ = group.Stop(5 * time.Second) })
	if _, err := group.Start(lab.Command{Name: "agent", Path: binary, Args: []string{"node", "--config", file}, Log: filepath.Join(dir, "agent.log")}); err != nil {
		t.Fatal(err)
	}
	// It is live with its last listener only.
	labtest.LaunchEnvoy(t, lab.EnvoyConfig{Name: "envoy", Bootstrap: filepath.Join(dir, "envoy.yaml")})

	type state struct {
		State   string
		Reasons []string
		Status  *node.Summary
	}
	status := func() (int, state) {
		t.Helper()
		cmd := exec.Command(binary, "status", "--node", health, "-o", "json")
		out, _ := cmd.Output()
		var nodes []state
		if err := json.Unmarshal(out, &nodes); err != nil || len(nodes) != 1 {
			t.Fatalf("%v: status says %s", err, out)
		}
		return cmd.ProcessState.ExitCode(), nodes[0]
	}
	until(t, 20*time.Second, "the refusal is told", func(context.Context) error {
		code, s := status()
		if code != 1 || s.State != "refused" || len(s.Status.Refusals) != 1 {
			return fmt.Errorf("exit %d, %s: %v", code, s.State, s.Reasons)
		}
		r := s.Status.Refusals[0]
		if r.Type != "listeners" || r.Resource != "dmsc/fabric" || !strings.Contains(r.Message, "Address already in use") || r.Running ||
			len(r.Origins) != 1 || r.Origins[0].Text != "setting envoy.fabric ("+fabric+")" {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	holder.Close()
	took := until(t, 30*time.Second, "the listener is up", func(context.Context) error {
		code, s := status()
		if code != 0 || s.State != "in sync" {
			return fmt.Errorf("exit %d, %s: %v", code, s.State, s.Reasons)
		}
		return nil
	})
	t.Logf("measured: freed port to listening %v", took)

	alias("two.example")
	history := func() (h []node.HistoryStatus) {
		t.Helper()
		out, err := exec.Command(binary, "xds", "history", "--node", health, "-o", "json").Output()
		if err != nil || json.Unmarshal(out, &h) != nil || len(h) != 1 {
			t.Fatalf("%v: history says %s", err, out)
		}
		return h
	}
	until(t, 10*time.Second, "the second alias is a generation", func(context.Context) error {
		h := history()[0].Generations
		if len(h) < 2 || !h[0].Acked || !slices.ContainsFunc(h[0].Changes, func(c node.ChangesStatus) bool { return c.Type == "routes" }) {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
	if code, out := dmscRun(t, nil, "xds", "rollback", "--state-dir", dir, "--node", "sg-1", "--reason", "INC-204"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	if code, s := status(); code != 1 || s.State != "pinned" || s.Status.Envoy.XDS.Pinned == nil || s.Status.Envoy.XDS.Pinned.Reason != "INC-204" {
		t.Errorf("exit %d, %s: %v", code, s.State, s.Reasons)
	}
	if h := history()[0].Generations; !h[1].Pinned || !h[1].Acked || h[0].Served {
		t.Errorf("history %+v", h)
	}
	if code, out := dmscRun(t, nil, "xds", "resume", "--state-dir", dir); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	if code, s := status(); code != 0 {
		t.Errorf("exit %d, %s: %v", code, s.State, s.Reasons)
	}
}
