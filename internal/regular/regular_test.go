package regular_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dmsc-mesh/dmsc/internal/regular"
)

func TestOnlyRegularFilesOfABoundedSizeAreRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("good"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Symlink("good", at("link")), // as a mounted ConfigMap has them
		syscall.Mkfifo(at("fifo"), 0o600),
		os.Symlink("fifo", at("link to a fifo")),
		os.WriteFile(at("huge"), nil, 0o600), os.Truncate(at("huge"), regular.MaxBytes+1),
		os.WriteFile(at("most"), nil, 0o600), os.Truncate(at("most"), regular.MaxBytes),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	socket, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()

	for _, name := range []string{"good", "link"} {
		if data, err := regular.ReadFile(at(name)); err != nil || string(data) != "text" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if data, err := regular.ReadFile(at("most")); err != nil || len(data) != regular.MaxBytes {
		t.Errorf("most: %d bytes, %v", len(data), err)
	}
	for path, want := range map[string]string{
		at("fifo"): "it is a FIFO", at("link to a fifo"): "it is a FIFO", at("socket"): "it is a socket", dir: "it is a folder",
		"/dev/zero": "it is a device", at("huge"): "more than 32 MiB", at("none"): "no such file",
	} {
		_, err := regular.ReadFile(path)
		var where *fs.PathError
		if !errors.As(err, &where) || where.Path != path || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := regular.ReadFile(at("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
