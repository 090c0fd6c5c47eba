package envoybin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Binary is an Envoy executable that is new enough.
type Binary struct {
	Path    string // absolute
	Version string // as the binary says it, for example "1.40.0"
}

// The oldest Envoy that knows RouteConfiguration.vhost_header, on which the
// whole FIB rests (design §5).
const minMajor, minMinor = 1, 37

// cached is where scripts/envoy.sh puts its Envoy, below the folder of go.mod.
var cached = filepath.Join(".cache", "envoy", "envoy")

// Find returns the first Envoy of these: $DMSC_ENVOY, envoy on PATH, the
// project's cache (searched from the working directory upwards). The first one
// that exists decides: when it is too old or does not run, Find fails instead
// of silently taking another. Every error is one sentence with the next step.
func Find(ctx context.Context) (Binary, error) {
	path, err := locate()
	if err != nil {
		return Binary{}, err
	}
	version, err := versionOf(ctx, path)
	if err != nil {
		return Binary{}, fmt.Errorf("%s does not run as an Envoy: %w: set DMSC_ENVOY to a working binary", path, err)
	}
	if !recent(version) {
		return Binary{}, fmt.Errorf("dmsc needs Envoy %d.%d or newer (vhost_header); %s is %s: set DMSC_ENVOY to a newer binary",
			minMajor, minMinor, path, version)
	}
	return Binary{Path: path, Version: version}, nil
}

func locate() (string, error) {
	if set := os.Getenv("DMSC_ENVOY"); set != "" {
		path, err := exec.LookPath(set)
		if err != nil {
			return "", fmt.Errorf("DMSC_ENVOY is %q, which is no executable file: set it to an Envoy binary", set)
		}
		return filepath.Abs(path)
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return filepath.Abs(path)
	}
	if root, ok := projectRoot(); ok {
		if path, err := exec.LookPath(filepath.Join(root, cached)); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no Envoy found in DMSC_ENVOY, on PATH or in the project's cache: run `make envoy`, or set DMSC_ENVOY to an Envoy binary")
}

// projectRoot is the nearest folder with a go.mod, from the working directory
// upwards.
func projectRoot() (string, bool) {
	dir, err := os.Getwd()
	if err != nil {
		return "", false
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, true
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}

// versionPattern matches "…/1.40.0/Clean/RELEASE/BoringSSL", the tail of what
// envoy --version prints.
var versionPattern = regexp.MustCompile(`/(\d+\.\d+\.\d+[^/\s]*)/`)

func versionOf(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = time.Second // a grandchild may hold the pipe
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run --version: %w", err)
	}
	found := versionPattern.FindStringSubmatch(string(out))
	if found == nil {
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return "", fmt.Errorf("--version says %q", first)
	}
	return found[1], nil
}

func recent(version string) bool {
	parts := strings.Split(version, ".")
	major, _ := strconv.Atoi(parts[0]) // digits, by the regular expression
	minor, _ := strconv.Atoi(parts[1])
	return major > minMajor || major == minMajor && minor >= minMinor
}
