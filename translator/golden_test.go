package translator_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
