package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/envoybin"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/internal/toy"
)

func findEnvoy(t *testing.T) string {
	t.Helper()
	envoy, err := envoybin.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return envoy.Path
}

func validate(t *testing.T, envoy, file string) {
	t.Helper()
	text, err := exec.CommandContext(t.Context(), envoy, "--mode", "validate", "-c", file, "--disable-hot-restart").CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", file, err, text)
	}
}

func TestEnvoyAcceptsTheTranslationOfEveryNode(t *testing.T) {
	envoy := findEnvoy(t)
	dir := t.TempDir()
	for _, n := range topology.Figure2().Nodes {
		t.Run(string(n.ID), func(t *testing.T) {
			t.Parallel()
			text := output(t, "translate", "--node", string(n.ID))
			if again := output(t, "translate", "--node", string(n.ID)); !bytes.Equal(text, again) {
				t.Error("two translations of one node differ")
			}
			file := filepath.Join(dir, string(n.ID)+".yaml")
			writeFile(t, file, string(text), 0o644)
			validate(t, envoy, file)
		})
	}
}

func TestEnvoyAcceptsBootstraps(t *testing.T) {
	envoy := findEnvoy(t)
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	for _, args := range [][]string{
		{"--node", "sg-1"},
		{"--node", "no", "--xds", "agent.example:17801", "--admin", "127.0.0.1:0"},
	} {
		writeFile(t, file, string(output(t, append([]string{"bootstrap"}, args...)...)), 0o644)
		validate(t, envoy, file)
	}
}

// movedFigure2 is Figure 2 on another loopback address, with admin and probe
// listeners as sockets in a folder: nothing else in the machine is in its way.
func movedFigure2(ip, folder string) string {
	t := topology.Figure2()
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: dmsc.io/v1alpha1\nkind: Topology\nmetadata: {name: %s}\nspec:\n  nodes:\n", t.Name)
	for i, n := range t.Nodes {
		fmt.Fprintf(&b, "    - {name: %s, role: %s, fabric: %q, admin: %q, probe: %q", n.ID, n.Role, fmt.Sprintf("%s:%d", ip, 15901+10*i),
			fmt.Sprintf("unix://%s/%s.admin", folder, n.ID), fmt.Sprintf("unix://%s/%s.probe", folder, n.ID))
		if n.Role == dmsc.RoleSG {
			fmt.Fprintf(&b, ", ingress: %q", fmt.Sprintf("%s:%d", ip, 15900+10*i))
		}
		b.WriteString("}\n")
	}
	b.WriteString("  links:\n")
	for _, l := range t.Links {
		fmt.Fprintf(&b, "    - {a: %s, b: %s, metric: %d}\n", l.A, l.B, l.Metric)
	}
	b.WriteString("  pods:\n")
	for _, p := range t.Pods {
		fmt.Fprintf(&b, "    - name: %s\n      gateway: %s\n      services:\n", p.Name, p.Gateway)
		for _, s := range p.Services {
			fmt.Fprintf(&b, "        - {prefix: %s, address: %s, port: %d}\n", s.Prefix, ip, s.Port)
		}
	}
	return b.String()
}

// The seven outputs of translate, run by seven Envoys without any agent, are a
// network: every name is reached from every gateway, hop by hop along the paths
// that spf prints.
func TestTranslatedNetworkForwards(t *testing.T) {
	envoy := findEnvoy(t)
	dir := shortTempDir(t)
	ip := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
	file := filepath.Join(dir, "net.yaml")
	writeFile(t, file, movedFigure2(ip, dir), 0o644)
	topo, err := topology.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range topo.Pods {
		for _, s := range p.Services {
			serveToy(t, p.Name, s)
		}
	}
	runTranslated(t, envoy, dir, file, topo)

	clients := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, from := range topo.Nodes {
		if from.Role != dmsc.RoleSG {
			continue
		}
		var report spfReport
		if err := json.Unmarshal(output(t, "spf", "-f", file, "--root", string(from.ID), "-o", "json"), &report); err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Concat(report.Prefixes, report.Functions) {
			e, via := ask(t, clients, from.Ingress, name.Prefix)
			gateway := topo.Pods[slices.IndexFunc(topo.Pods, func(p topology.Pod) bool { return p.Name == e.Pod })].Gateway
			if !slices.Contains(name.Egress, gateway) {
				t.Errorf("%s from %s was answered by %s at %s, not at %v", name.Prefix, from.ID, e.Pod, gateway, name.Egress)
			}
			if via[0] != string(from.ID) || via[len(via)-1] != string(gateway) {
				t.Errorf("%s from %s went %v", name.Prefix, from.ID, via)
			}
			if len(name.NextHops) > 0 && !slices.Contains(name.NextHops, via[1]) {
				t.Errorf("%s from %s went %v, spf says next hop %v", name.Prefix, from.ID, via, name.NextHops)
			}
		}
		if code, body := get(t, clients, from.Ingress, "a/99"); code != http.StatusNotFound || !strings.Contains(body, "no-route") {
			t.Errorf("a/99 from %s: %d %q", from.ID, code, body)
		}
	}
}

func serveToy(t *testing.T, pod string, s topology.Service) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(s.Address, fmt.Sprint(s.Port)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- toy.Serve(ctx, toy.Config{Listener: l, Pod: pod, Prefix: s.Prefix.String(), Protocol: s.Protocol})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// runTranslated runs the translation of every node and waits until all are live
// and have found their local services healthy.
func runTranslated(t *testing.T, envoy, dir, file string, topo *topology.Topology) {
	t.Helper()
	g := lab.NewGroup()
	t.Cleanup(func() {
		if err := g.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var envoys []*lab.Envoy
	for _, n := range topo.Nodes {
		config := filepath.Join(dir, string(n.ID)+".yaml")
		writeFile(t, config, string(output(t, "translate", "-f", file, "--node", string(n.ID))), 0o644)
		e, err := lab.LaunchEnvoy(g, lab.EnvoyConfig{
			Name: string(n.ID), Binary: envoy, Bootstrap: config,
			Admin: strings.TrimPrefix(n.Admin, "unix://"), Log: filepath.Join(dir, string(n.ID)+".log"),
		})
		if err != nil {
			t.Fatal(err)
		}
		envoys = append(envoys, e)
	}
	for _, e := range envoys {
		if err := e.WaitLive(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// ask requests a name at an ingress, and returns what answered and the way.
func ask(t *testing.T, c *http.Client, ingress, prefix string) (toy.Echo, []string) {
	t.Helper()
	code, body := get(t, c, ingress, prefix)
	var e toy.Echo
	if err := json.Unmarshal([]byte(body), &e); code != http.StatusOK || err != nil {
		t.Fatalf("%s at %s: %d %s", prefix, ingress, code, body)
	}
	return e, strings.FieldsFunc(strings.Join(e.Headers["dmsc-via"], ","), func(r rune) bool { return strings.ContainsRune("<>, ", r) })
}

func get(t *testing.T, c *http.Client, ingress, prefix string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ingress+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("dmsc-service-prefix", prefix)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body) + resp.Header.Get("dmsc-error")
}

// The samples of bootstraps are the verb's own output.
func TestSampleBootstrapsAreWhatTheVerbPrints(t *testing.T) {
	folder := filepath.Join("..", "..", "envoy-configs")
	for _, role := range []string{"sg", "sr"} {
		want := output(t, "bootstrap", "--config", filepath.Join(folder, "agents", role+"-1.yaml"))
		golden(t, filepath.Join(folder, "bootstrap-"+role+".yaml"), want)
	}
}

// golden compares a committed file with what it should be; -update writes it.
func golden(t *testing.T, file string, want []byte) {
	t.Helper()
	if *update {
		writeFile(t, file, string(want), 0o644)
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is out of date (%v); go test ./cmd/dmsc -update writes it", file, err)
	}
}
