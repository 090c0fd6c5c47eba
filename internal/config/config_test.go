package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
)

// TestConfigs shows what a file, variables (env=KEY:VALUE) and flags
// (flag=key:value) come to, or what is wrong with them and where.
func TestConfigs(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			t.Chdir(t.TempDir())
			if err := os.WriteFile("f.yaml", []byte(td.Input), 0o600); err != nil {
				t.Fatal(err)
			}
			file := "f.yaml"
			flags := map[string]any{}
			for _, arg := range td.CmdArgs {
				for _, v := range arg.Vals {
					key, value, _ := strings.Cut(v, ":")
					switch arg.Key {
					case "env":
						t.Setenv(key, value)
						defer os.Unsetenv(key)
					case "flag":
						flags[key] = value
					}
				}
				if arg.Key == "nofile" {
					file = ""
				}
			}
			switch td.Cmd {
			case "node":
				return result(LoadNode(file, flags))
			case "spa":
				return result(LoadSPA(file, flags))
			case "scsc":
				return result(LoadSCSC(file, flags))
			}
			return "unknown command"
		})
	})
}

func result[T any](c *T, err error) string {
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(fmt.Sprintf("%+v", *c), " ", "\n")
}

func TestFlagsOverruleEnvironmentOverrulesFileOverrulesDefaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	text := "node: sg-1\nrole: SG\nlisten: {api: '127.0.0.1:1', health: '127.0.0.1:2', peering: '127.0.0.1:3'}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DMSC_LISTEN_API", "127.0.0.1:11")
	t.Setenv("DMSC_LISTEN_HEALTH", "127.0.0.1:12")
	t.Setenv("DMSC_SPA_ADDRESSES", "spa-1:17803,spa-2:17803")
	t.Setenv("DMSC_TRANSIT", "true")
	n, err := LoadNode(file, map[string]any{"listen.api": ":0", "state_dir": "/run/x"})
	if err != nil {
		t.Fatal(err)
	}
	want := NodeListen{API: ":0", XDS: "unix:///run/x/xds.sock", Peering: "127.0.0.1:3", Health: "127.0.0.1:12"}
	if diff := cmp.Diff(want, n.Listen); diff != "" {
		t.Errorf("listen (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"spa-1:17803", "spa-2:17803"}, n.SPA.Addresses); diff != "" {
		t.Errorf("spa (-want +got):\n%s", diff)
	}
	if !n.Transit {
		t.Error("DMSC_TRANSIT was not read")
	}
	if _, err := LoadNode(file, map[string]any{"listen.apy": ":0"}); err == nil {
		t.Error("a flag for a setting that does not exist was taken")
	}
}

func TestAMissingConfigFileIsNamed(t *testing.T) {
	_, err := LoadNode(filepath.Join(t.TempDir(), "none.yaml"), nil)
	if err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("error %v", err)
	}
}
