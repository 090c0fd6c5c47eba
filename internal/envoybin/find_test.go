package envoybin_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc/internal/envoybin"
)

// fake writes an executable that answers --version like an Envoy.
func fake(t *testing.T, path, version string) {
	t.Helper()
	script(t, path, fmt.Sprintf("echo; echo 'envoy  version: 0a1b2c/%s/Clean/RELEASE/BoringSSL'", version))
}

func script(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// project is an empty world: a project folder with a sub-folder as the working
// directory, nothing on PATH, DMSC_ENVOY unset.
func project(t *testing.T) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "go.mod"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(sub)
	t.Setenv("DMSC_ENVOY", "")
	t.Setenv("PATH", filepath.Join(root, "bin"))
	return root
}

func TestFindOrderIsEnvironmentPathCache(t *testing.T) {
	root := project(t)
	set, onPath, cached := filepath.Join(root, "mine"), filepath.Join(root, "bin", "envoy"), filepath.Join(root, ".cache", "envoy", "envoy")

	fake(t, cached, "1.37.0")
	expect(t, cached, "1.37.0")
	fake(t, onPath, "1.40.0")
	expect(t, onPath, "1.40.0")
	fake(t, set, "2.0.1-dev")
	t.Setenv("DMSC_ENVOY", set)
	expect(t, set, "2.0.1-dev")
}

func expect(t *testing.T, path, version string) {
	t.Helper()
	got, err := envoybin.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := (envoybin.Binary{Path: path, Version: version}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestFindRefusesInOneSentence(t *testing.T) {
	tests := map[string]struct {
		arrange func(t *testing.T, root string)
		want    string
	}{
		"none": {
			arrange: func(*testing.T, string) {},
			want:    "no Envoy found in DMSC_ENVOY, on PATH or in the project's cache: run `make envoy`, or set DMSC_ENVOY to an Envoy binary",
		},
		"too old": {
			arrange: func(t *testing.T, root string) { fake(t, root+"/bin/envoy", "1.36.2") },
			want:    "dmsc needs Envoy 1.37 or newer (vhost_header); ROOT/bin/envoy is 1.36.2: set DMSC_ENVOY to a newer binary",
		},
		"an old one set is not replaced by a new one on PATH": {
			arrange: func(t *testing.T, root string) {
				fake(t, root+"/bin/envoy", "1.40.0")
				fake(t, root+"/old", "0.99.0")
				t.Setenv("DMSC_ENVOY", root+"/old")
			},
			want: "dmsc needs Envoy 1.37 or newer (vhost_header); ROOT/old is 0.99.0: set DMSC_ENVOY to a newer binary",
		},
		"set to nothing": {
			arrange: func(t *testing.T, root string) { t.Setenv("DMSC_ENVOY", root+"/absent") },
			want:    `DMSC_ENVOY is "ROOT/absent", which is no executable file: set it to an Envoy binary`,
		},
		"not an Envoy": {
			arrange: func(t *testing.T, root string) { script(t, root+"/bin/envoy", "echo busybox 1.2") },
			want:    `ROOT/bin/envoy does not run as an Envoy: --version says "busybox 1.2": set DMSC_ENVOY to a working binary`,
		},
		"does not start": {
			arrange: func(t *testing.T, root string) { script(t, root+"/bin/envoy", "exit 3") },
			want:    `ROOT/bin/envoy does not run as an Envoy: run --version: exit status 3: set DMSC_ENVOY to a working binary`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			root := project(t)
			test.arrange(t, root)
			_, err := envoybin.Find(t.Context())
			if err == nil {
				t.Fatal("found one")
			}
			if got := strings.ReplaceAll(err.Error(), root, "ROOT"); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
