package dmscv1_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// root is the project's folder, seen from this package.
const root = "../../.."

// TestGeneratedFilesMatchTheProtos generates the Go files anew, with the
// pinned tools, and compares them with the committed ones.
func TestGeneratedFilesMatchTheProtos(t *testing.T) {
	installTools(t)
	out := t.TempDir()
	run(t, ".cache/bin/buf", "generate", "--output", out)

	want := generatedFiles(t, filepath.Join(out, "api", "dmsc", "v1"))
	got := generatedFiles(t, ".")
	if len(want) == 0 {
		t.Fatal("buf generated no file")
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if diff := cmp.Diff(want[name], got[name]); diff != "" {
			t.Errorf("%s is not what its .proto generates: run `make generate` (-generated +committed):\n%s", name, diff)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is committed and no .proto generates it: delete it", name)
		}
	}
}

func TestProtosPassBufLint(t *testing.T) {
	installTools(t)
	run(t, ".cache/bin/buf", "lint")
}

func installTools(t *testing.T) {
	t.Helper()
	run(t, "scripts/tools.sh", "buf", "protoc-gen-go", "protoc-gen-go-grpc")
}

// run executes a program of the project in the project's folder, with the
// pinned tools first on PATH, and fails the test with its output when it fails.
func run(t *testing.T, program string, args ...string) {
	t.Helper()
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, program), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, ".cache", "bin")+string(filepath.ListSeparator)+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// generatedFiles reads every *.pb.go of a folder, by name.
func generatedFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.pb.go"))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string, len(paths))
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = string(body)
	}
	return files
}
