package serve

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestASocketOfADeadProcessIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "xds.sock")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false) // as SIGKILL leaves it
	if _, err := Listen("unix://" + path); err == nil || !strings.Contains(err.Error(), "already running") {
		t.Errorf("beside a living process: %v", err)
	}
	old.Close()
	l, err := Listen("unix://" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o660 {
		t.Errorf("the socket has mode %o, want 660", got)
	}
}

// A wrong path in a configuration must not cost a file.
func TestAFileThatIsNoSocketStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grants.yaml")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen("unix://" + path); err == nil {
		l.Close()
		t.Error("listens in the place of a file")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file is %q, %v", text, err)
	}
}
