package lab

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestGroupLeavesNothingBehind(t *testing.T) {
	g := NewGroup()
	log := filepath.Join(t.TempDir(), "log")
	// Each leaves a grandchild in its group.
	obedient, err := g.Start(Command{Name: "obedient", Path: "/bin/sh", Args: []string{"-c", "sleep 100 & echo up; wait"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ready := &firstLine{seen: make(chan struct{})}
	stubborn, err := g.Start(Command{Name: "stubborn", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; echo up; sleep 100 & while :; do sleep 1; done"}, Stdout: ready})
	if err != nil {
		t.Fatal(err)
	}
	<-ready.seen
	paused, err := g.Start(Command{Name: "paused", Path: "/bin/sleep", Args: []string{"100"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := paused.Pause(); err != nil {
		t.Fatal(err)
	}
	if !obedient.left() || !paused.left() {
		t.Error("left sees no processes")
	}
	err = g.Stop(300 * time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "stubborn") || strings.Contains(err.Error(), "paused") {
		t.Errorf("stop says %v", err)
	}
	for _, p := range []*Process{obedient, stubborn, paused} {
		if p.Running() || p.left() {
			t.Errorf("%s is still there", p.Name)
		}
	}
	if got := obedient.LogTail(1); got != "up" {
		t.Errorf("log %q", got)
	}
	if _, err := g.Start(Command{Name: "late", Path: "/bin/true"}); err == nil {
		t.Error("a stopped group starts processes")
	}
}

// firstLine tells when something has been written.
type firstLine struct {
	seen chan struct{}
	once sync.Once
}

func (f *firstLine) Write(b []byte) (int, error) {
	f.once.Do(func() { close(f.seen) })
	return len(b), nil
}

func TestProcessReportsItsEnd(t *testing.T) {
	g := NewGroup()
	defer g.Stop(time.Second)
	p, err := g.Start(Command{Name: "three", Path: "/bin/sh", Args: []string{"-c", "exit $CODE"}, Env: []string{"CODE=3"}})
	if err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.Wait(t.Context()); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("ended with %v", err)
	}
	if _, err := g.Start(Command{Name: "absent", Path: "/no/such"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent program: %v", err)
	}
}
