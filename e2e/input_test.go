package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What an operator gets wrong is said in one sentence with the next step, and
// nothing is started: exit code 2 (design §9).
func TestOneSentenceSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := taken.Addr().String()
	grants := file("grants.yaml", string(figure2().Grants()))
	node := func(name string, change map[string]any) string {
		t.Helper()
		listen := map[string]any{"api": "127.0.0.1:0", "peering": "127.0.0.1:0", "health": "127.0.0.1:0"}
		keys := map[string]any{
			"node": "sg-1", "domain": "lab", "role": "SG", "state_dir": filepath.Join(dir, name), "listen": listen,
			"envoy": map[string]any{"ingress": "127.0.0.1:15900", "fabric": "127.0.0.1:15901"},
			"links": []any{map[string]any{"neighbor": "sr-1", "dial": "127.0.0.1:9"}},
		}
		for k, v := range change {
			if k, found := strings.CutPrefix(k, "listen."); found {
				listen[k] = v
			} else {
				keys[k] = v
			}
		}
		text, err := json.MarshalIndent(keys, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		return file(name+".yaml", string(text))
	}
	old := file("old-envoy", "#!/bin/sh\necho 'envoy  version: 0123abcd/1.36.4/Clean/RELEASE/BoringSSL'\n")
	odd := file("odd-envoy", "#!/bin/sh\necho no envoy\n")

	for _, c := range []struct {
		what string
		env  string
		args []string
		want string // regular expression for what follows "dmsc: "
	}{
		{
			"an Envoy that is too old", "DMSC_ENVOY=" + old, []string{"demo", "--once"},
			`dmsc needs Envoy 1\.37 or newer \(vhost_header\); \S+ is 1\.36\.4: set DMSC_ENVOY to a newer binary`,
		},
		{
			"no Envoy", "DMSC_ENVOY=" + filepath.Join(dir, "none"), []string{"demo", "--once"},
			`DMSC_ENVOY is "\S+", which is no executable file: set it to an Envoy binary`,
		},
		{
			"what is no Envoy", "DMSC_ENVOY=" + odd, []string{"demo", "--once"},
			`\S+ does not run as an Envoy: --version says "no envoy": set DMSC_ENVOY to a working binary`,
		},
		{
			"a topology with an unknown key", "", []string{"demo", "--topology", file("topology.yaml", topologyText("metrik"))},
			`\S+topology\.yaml:8:26: DMSC102 .*metrik.*metric.*`,
		},
		{
			"a topology that is no YAML", "", []string{"demo", "--topology", file("broken.yaml", "apiVersion: [")},
			`\S+broken\.yaml:1:\d+: DMSC\d+ .*`,
		},
		{
			"grants that name no prefix", "", []string{"spa", "--config", file("spa.yaml", fmt.Sprintf(
				"{listen: \"127.0.0.1:0\", health: \"127.0.0.1:0\", grants: %q}\n", file("bad-grants.yaml", strings.Replace(string(figure2().Grants()), "prefix", "prefiks", 1))))},
			`spa: .*bad-grants\.yaml:6:\d+: DMSC102 .*prefiks.*prefix.*(\n.*)*`,
		},
		{
			"a policy without a unit", "", []string{"scsc", "--config", file("scsc.yaml", fmt.Sprintf(
				"{listen: \"127.0.0.1:0\", health: \"127.0.0.1:0\", observe: [\"127.0.0.1:9\"], state_dir: %q, policies: %q}\n",
				filepath.Join(dir, "scsc"), file("policies.yaml", strings.Replace(qos, "40ms", "40", 1))))},
			`scsc: .*policies\.yaml:6:20: DMSC\d+ .*(\n.*)*`,
		},
		{
			"a configuration with an unknown key", "", []string{"node", "--config", node("unknown", map[string]any{"transport": true})},
			`\S+unknown\.yaml:\d+:\d+: DMSC102 .*transport.*`,
		},
		{
			"a configuration that is not there", "", []string{"node", "--config", filepath.Join(dir, "none.yaml")},
			`.*none\.yaml.*no such file.*`,
		},
		{
			"an API port in use", "", []string{"node", "--config", node("api", map[string]any{"listen.api": at})},
			`node sg-1: listen\.api: .*address already in use.*` + at + `.*`,
		},
		{
			"a peering port in use", "", []string{"node", "--config", node("peering", map[string]any{"listen.peering": at})},
			`node sg-1: listen\.peering: .*address already in use.*` + at + `.*`,
		},
		{
			"an SPA's port in use", "", []string{"spa", "--config", file("spa2.yaml", fmt.Sprintf("{listen: %q, health: \"127.0.0.1:0\", grants: %q}\n", at, grants))},
			`spa: listen: .*address already in use.*` + at + `.*`,
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			var env []string
			if c.env != "" {
				env = append(env, c.env)
			}
			code, stderr := dmscRun(t, env, c.args...)
			_, said, _ := strings.Cut("\n"+stderr, "\ndmsc: ") // behind what has been logged
			if code != 2 || !regexp.MustCompile(`^(?:`+c.want+`)$`).MatchString(strings.TrimSpace(said)) {
				t.Errorf("exit code %d, want 2; standard error:\n%s\nwant\ndmsc: %s", code, stderr, c.want)
			}
		})
	}
}

// topologyText is a small topology; key stands for metric.
func topologyText(key string) string {
	return `apiVersion: dmsc.io/v1alpha1
kind: Topology
metadata: {name: two}
spec:
  nodes:
    - {name: sg-1, role: SG}
  links:
    - {a: sg-1, b: sr-1, ` + key + `: 10}
  pods: []
`
}

// A second agent of a node that runs already is refused, and the first is not
// disturbed.
func TestASecondAgentOfANodeIsRefused(t *testing.T) {
	n := shared(t)
	nd := n.Node("sg-1")
	var file map[string]any
	text, err := os.ReadFile(filepath.Join(nd.Dir, "node.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	elsewhere := maps.Clone(file)
	elsewhere["listen"] = map[string]any{
		"api": "127.0.0.1:0", "peering": "127.0.0.1:0", "health": "127.0.0.1:0", "xds": "unix://" + filepath.Join(n.dir, "second.sock"),
	}
	before := n.status(t, "sg-1").Incarnation
	for what, c := range map[string]struct {
		config map[string]any
		want   string
	}{
		"on its listeners":    {file, "address already in use"},
		"on its state folder": {elsewhere, "another process holds it; is this node already running?"},
	} {
		text, err := json.Marshal(c.config)
		if err != nil {
			t.Fatal(err)
		}
		config := filepath.Join(t.TempDir(), "node.yaml")
		if err := os.WriteFile(config, text, 0o600); err != nil {
			t.Fatal(err)
		}
		code, stderr := dmscRun(t, nil, "node", "--config", config)
		if lines := strings.Count(strings.TrimSpace(stderr), "\n"); code != 2 || !strings.Contains(stderr, c.want) || lines != 0 {
			t.Errorf("a second agent %s: exit code %d, %s", what, code, stderr)
		}
	}
	n.settle(t)
	if after := n.status(t, "sg-1").Incarnation; after != before {
		t.Errorf("the incarnation of sg-1 was %d and is %d", before, after)
	}
	if a := n.get(t, "sg-1", "b/4"); a.status != 200 {
		t.Errorf("the first agent's Envoy answers %d", a.status)
	}
}

// When a port of an Envoy is taken, the agent says which and why in one
// sentence, and what its Envoy does run goes on.
func TestAPortThatEnvoyCannotTakeIsReported(t *testing.T) {
	n := start(t, "")
	nd := n.Node("sg-1")
	if err := nd.Envoy.Kill(); err != nil {
		t.Fatal(err)
	}
	<-nd.Envoy.Done()
	taken, err := net.Listen("tcp", nd.Ingress)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := n.StartNode(t.Context(), "sg-1"); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "the agent does not report it", func(ctx context.Context) error {
		s, err := n.Status(ctx, "sg-1")
		if err != nil {
			return err
		}
		if x := s.Envoy.XDS; x == nil || x.LastNack == nil || !strings.Contains(x.LastNack.Message, nd.Ingress) || s.Ready {
			return fmt.Errorf("ready %t, %+v", s.Ready, s.Envoy)
		}
		return nil
	})
	var said string
	for line := range strings.Lines(n.log(t, "sg-1")) {
		if strings.Contains(line, "envoy refused a resource") {
			said = strings.TrimSpace(line)
		}
	}
	if !strings.Contains(said, nd.Ingress) {
		t.Errorf("the log does not say which address is taken: %q", said)
	}
	t.Logf("the agent says: %s", said)
}
