package translator_test

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc/internal/envoybin"
	"github.com/dmsc-mesh/dmsc/translator"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden.yaml")

// Each testdata/<case>.yaml is the State of a node, <case>.golden.yaml its
// static Envoy configuration. A new case is a new file and one run with -update.
func TestGoldensAreWhatTranslateGivesAndEnvoyAccepts(t *testing.T) {
	envoy := findEnvoy(t)
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, ".golden.yaml") {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			got := static(t, readScene(t, file))
			golden := strings.TrimSuffix(file, ".yaml") + ".golden.yaml"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v (run go test ./translator -update)", err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("golden differs (-want +got; accept with -update):\n%s", diff)
			}
			validate(t, envoy, golden)
		})
	}
}

func TestBootstrapsAreAcceptedByEnvoy(t *testing.T) {
	envoy := findEnvoy(t)
	for name, addr := range map[string]struct{ admin, xds string }{
		"unix": {"unix:///tmp/dmsc-golden-admin.sock", "unix:///tmp/dmsc-golden-xds.sock"},
		"tcp":  {"127.0.0.1:15902", "127.0.0.1:17801"},
		"dns":  {"", "agent.example:17801"},
	} {
		t.Run(name, func(t *testing.T) {
			boot, err := translator.Bootstrap("no", addr.admin, addr.xds)
			if err != nil {
				t.Fatal(err)
			}
			if err := boot.ValidateAll(); err != nil {
				t.Error(err)
			}
			validate(t, envoy, writeYAML(t, boot))
		})
	}
}

// Whatever refers to another resource takes it from where the bootstrap takes
// the first ones, and Envoy accepts both.
func TestASourceIsThatOfAllResources(t *testing.T) {
	envoy := findEnvoy(t)
	for name, source := range map[string]translator.Source{
		"ads":             {},
		"state of world":  {SotW: true, Cluster: "control_plane"},
		"by type":         {PerType: true},
		"by type, whole":  {PerType: true, SotW: true, Cluster: "control_plane"},
		"another cluster": {Cluster: "control_plane"},
	} {
		t.Run(name, func(t *testing.T) {
			boot, err := translator.Bootstrap("sg-1", "", "unix:///tmp/dmsc-golden-xds.sock")
			if err != nil {
				t.Fatal(err)
			}
			translator.SetSource(boot, source)
			if err := boot.ValidateAll(); err != nil {
				t.Error(err)
			}
			validate(t, envoy, writeYAML(t, boot))
			text, err := translator.YAML(boot)
			if err != nil {
				t.Fatal(err)
			}
			s := translator.State{Node: "sg-1", Addrs: translator.Addrs{Ingress: "127.0.0.1:15900", Fabric: "127.0.0.1:15901", Probe: "unix:///probe"}}
			before := new(translator.Translator)
			if _, err := before.Translate(s); err != nil {
				t.Fatal(err)
			}
			s.Source = source
			r, err := before.Translate(s)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range r.Listeners {
				text = append(text, protojson.Format(l)...)
			}
			for _, c := range r.Clusters {
				text = append(text, protojson.Format(c)...)
			}
			aggregated := regexp.MustCompile(`\bads"?:`).Match(text)
			typed := regexp.MustCompile(`api_?[cC]onfig_?[sS]ource`).Match(text)
			if aggregated == source.PerType || typed != source.PerType {
				t.Errorf("ads %v, sources of their own %v", aggregated, typed)
			}
			whole, deltas := bytes.Contains(text, []byte(`"GRPC"`)), bytes.Contains(text, []byte(`"DELTA_GRPC"`))
			if whole != source.SotW || deltas == source.SotW {
				t.Errorf("state of the world %v, deltas %v", whole, deltas)
			}
			if other := bytes.Contains(text, []byte("dmsc/xds")); other != (source.Cluster == "") {
				t.Errorf("the agent is dmsc/xds: %v", other)
			}
		})
	}
}

func TestAddressesAreRefusedInOneSentence(t *testing.T) {
	for addr, want := range map[string]string{
		"sr-1:15901":     `address "sr-1:15901" has the host name "sr-1": write an IP address`,
		"127.0.0.1":      `address "127.0.0.1" is neither host:port nor unix:///path`,
		"":               `address "" is neither host:port nor unix:///path`,
		"127.0.0.1:http": `address "127.0.0.1:http" has the port "http", 0 to 65535 are allowed`,
		"unix://":        `address "unix://" has no path`,
	} {
		if err := translator.CheckAddress(addr); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", addr, err, want)
		}
	}
	if _, err := translator.Bootstrap("sg-1", "", ":17801"); err == nil {
		t.Error("an xDS address without a host was accepted")
	}
}

func findEnvoy(t *testing.T) string {
	t.Helper()
	envoy, err := envoybin.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return envoy.Path
}

func static(t *testing.T, s translator.State) []byte {
	t.Helper()
	boot, err := translator.Static(s.Node, s.Addrs, translate(t, s))
	if err != nil {
		t.Fatal(err)
	}
	text, err := translator.YAML(boot)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func writeYAML(t *testing.T, m proto.Message) string {
	t.Helper()
	text, err := translator.YAML(m)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func validate(t *testing.T, envoy, file string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), envoy, "--mode", "validate", "--log-level", "warn", "--concurrency", "1", "-c", file).CombinedOutput()
	if err != nil {
		t.Errorf("envoy --mode validate %s: %v\n%s", file, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "[warning]") {
			t.Errorf("envoy warns: %s", line)
		}
	}
}
