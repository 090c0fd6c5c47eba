//go:build compose

package compose_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	project = "dmsc-e2e"
	label   = "label=com.docker.compose.project=" + project
)

// network is the composed Figure 2 while it runs.
type network struct {
	t        *testing.T
	compose  []string          // "docker compose" or docker-compose
	policies string            // the folder the SCSC reads
	ingress  map[string]string // gateway → published address of its pod-facing port
}

// start brings the network up; the end of the test removes it and everything
// that belongs to it, and shows the logs of a failed test.
func start(t *testing.T) *network {
	t.Helper()
	n := &network{t: t, compose: strings.Fields(os.Getenv("DMSC_COMPOSE")), policies: t.TempDir()}
	if len(n.compose) == 0 {
		t.Fatal("DMSC_COMPOSE is not set: run `make e2e-compose`, which finds an engine and Compose")
	}
	// Mounted folders are read by containers of another user on some engines.
	if err := os.Chmod(n.policies, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("POLICY_FOLDER", n.policies)
	n.writePolicy(modest)

	n.down() // what an interrupted run left
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := n.command(append(slices.Clone(n.compose), "-p", project, "logs", "--no-color", "--tail", "60")...)
			t.Logf("the last lines of every container:\n%s", logs)
		}
		n.down()
	})
	n.run("up", "--detach", "--no-build")

	n.ingress = map[string]string{}
	for _, sg := range gateways {
		n.ingress[sg] = strings.TrimSpace(n.run("port", sg+"-envoy", "15900"))
	}
	return n
}

// down removes the project and fails the test when anything is left of it.
func (n *network) down() {
	n.t.Helper()
	n.run("down", "--volumes", "--remove-orphans", "--timeout", "3")
	for _, list := range [][]string{{"ps", "--all"}, {"network", "ls"}, {"volume", "ls"}} {
		if left := n.docker(append(list, "--quiet", "--filter", label)...); left != "" {
			n.t.Errorf("`docker %s` still lists something of the project:\n%s", strings.Join(list, " "), left)
		}
	}
}

// run executes a Compose command on the project and returns its output.
func (n *network) run(args ...string) string {
	n.t.Helper()
	return n.must(append(append(slices.Clone(n.compose), "-p", project), args...)...)
}

func (n *network) docker(args ...string) string {
	n.t.Helper()
	return n.must(append([]string{"docker"}, args...)...)
}

func (n *network) must(args ...string) string {
	n.t.Helper()
	out, err := n.command(args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// command runs a program and returns what it prints to standard output.
func (n *network) command(args ...string) (string, error) {
	// The test's own context ends before its clean-up runs.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// in returns the network for a part of the test.
func (n *network) in(t *testing.T) *network {
	part := *n
	part.t = t
	return &part
}

// containers lists the project's containers, one formatted line each.
func (n *network) containers(format string, args ...string) string {
	n.t.Helper()
	return n.docker(append([]string{"ps", "--all", "--filter", label, "--format", format}, args...)...)
}

// eventuallyLogs waits until a service has printed a line that matches.
func (n *network) eventuallyLogs(service, pattern string) {
	n.t.Helper()
	line := regexp.MustCompile(pattern)
	eventually(n.t, 30*time.Second, func() error {
		if out := n.run("logs", "--no-color", service); !line.MatchString(out) {
			return fmt.Errorf("%s has not logged %s:\n%s", service, pattern, out)
		}
		return nil
	})
}

// writePolicy replaces the one policy file, in one step as editors do.
func (n *network) writePolicy(text string) {
	n.t.Helper()
	draft := filepath.Join(n.t.TempDir(), "draft")
	if err := os.WriteFile(draft, []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Rename(draft, filepath.Join(n.policies, "policy.yaml")); err != nil {
		n.t.Fatal(err)
	}
}

// eventually calls try until it returns nil, and fails the test with its last
// error at the deadline. It returns the time that took.
func eventually(t *testing.T, deadline time.Duration, try func() error) time.Duration {
	t.Helper()
	begin := time.Now()
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	for {
		err := try()
		took := time.Since(begin)
		if err == nil {
			return took
		}
		if took > deadline {
			t.Fatalf("not within %v: %v", deadline, err)
		}
		<-retry.C
	}
}
