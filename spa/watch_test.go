package spa

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodGrants = "apiVersion: dmsc.io/v1alpha1\nkind: PrefixGrants\nmetadata: {name: g}\nspec:\n  grants:\n    - {holder: pod-1, prefix: a/1}\n"

// said passes the messages of a log on, so that a test waits for what happens
// instead of for time to pass.
type said struct {
	slog.Handler
	messages chan string
}

func (s said) Enabled(context.Context, slog.Level) bool { return true }
func (s said) Handle(_ context.Context, r slog.Record) error {
	s.messages <- r.Message
	return nil
}

func (s said) await(t *testing.T, prefix string) {
	t.Helper()
	select {
	case m := <-s.messages:
		if !strings.HasPrefix(m, prefix) {
			t.Fatalf("the server says %q, want %q", m, prefix)
		}
	case <-t.Context().Done():
		t.Fatalf("the server never says %q", prefix)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	// As editors and Kubernetes do: another file takes the name.
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func granted(s *Server, prefix string) bool {
	return s.current.Load().Judge(Claim{Gateway: "sg-1", Pod: "pod-1", Prefixes: []string{prefix}})[0].Granted
}

// Issue 3, bad input: a running process keeps its last good file.
func TestABadGrantsFileKeepsTheLastGoodOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grants.yaml")
	write(t, path, goodGrants)
	log := said{slog.DiscardHandler, make(chan string, 16)}
	s := NewServer(ServerConfig{Log: slog.New(log)})
	if err := s.Load(path); err != nil {
		t.Fatal(err)
	}
	log.await(t, "grants in force")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Watch(ctx, path) }()

	write(t, path, strings.Replace(goodGrants, "prefix", "prefiks", 1))
	log.await(t, "bad grants file")
	err := s.Status().LastError
	if !granted(s, "a/1") || err == nil || !strings.Contains(err.Error(), `grants.yaml:6:23: DMSC102 unknown field "prefiks" (did you mean "prefix"?)`) {
		t.Errorf("granted %t, last error %v", granted(s, "a/1"), err)
	}

	write(t, path, goodGrants+"    - {holder: pod-1, prefix: b/1}\n")
	log.await(t, "grants in force")
	if st := s.Status(); !granted(s, "b/1") || st.LastError != nil || st.Generation != 2 {
		t.Errorf("granted %t, status %+v", granted(s, "b/1"), st)
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	log.await(t, "bad grants file")
	if !granted(s, "b/1") || s.Status().LastError == nil {
		t.Error("a removed file took the grants with it")
	}

	// The good file comes back as it was: in force again, nothing else.
	write(t, path, goodGrants+"    - {holder: pod-1, prefix: b/1}\n")
	log.await(t, "grants in force")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Watch: %v", err)
	}
	if len(log.messages) != 0 {
		t.Errorf("the server went on to say %q", <-log.messages)
	}
}

func TestAFolderOfGrantsIsOneList(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), goodGrants)
	write(t, filepath.Join(dir, "b.yaml"), strings.NewReplacer("name: g", "name: h", "a/1", "b/1").Replace(goodGrants))
	s := NewServer(ServerConfig{Log: testLog(t)})
	if err := s.Load(dir); err != nil {
		t.Fatal(err)
	}
	if !granted(s, "a/1") || !granted(s, "b/1") {
		t.Error("a file of the folder is not in force")
	}
	if err := s.Load(filepath.Join(dir, "none")); err == nil || s.Status().LastError == nil || !granted(s, "a/1") {
		t.Error("a folder that is not there took the grants with it")
	}
}
