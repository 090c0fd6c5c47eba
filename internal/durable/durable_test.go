package durable_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/dmsc-mesh/dmsc/internal/durable"
)

func TestAFileHasItsOldOrItsNewContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	content := func(want string) {
		t.Helper()
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("%v: it has %q, want %q", err, got, want)
		}
		if all, _ := os.ReadDir(filepath.Dir(path)); len(all) != 1 {
			t.Errorf("files are left behind: %v", all)
		}
	}
	text := func(s string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, s)
			return err
		}
	}
	if err := durable.Write(path, 0o640, text("old, and longer")); err != nil {
		t.Fatal(err)
	}
	content("old, and longer")
	full := errors.New("disk full")
	if err := durable.Write(path, 0o640, func(w io.Writer) error { return errors.Join(text("new")(w), full) }); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	content("old, and longer")
	if err := durable.Write(path, 0o640, text("new")); err != nil {
		t.Fatal(err)
	}
	content("new")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v: mode %v", err, info.Mode())
	}
	if err := durable.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := durable.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed twice: %v", err)
	}
	if err := durable.Write(filepath.Join(path, "none", "f"), 0o640, text("")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in no folder: %v", err)
	}
}
