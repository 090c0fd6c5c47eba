package scsc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

// pollInterval bounds how late a change is seen that no notification tells of:
// a file mounted into a container, or one on a network file system.
const pollInterval = time.Second

// watchPolicies calls load whenever the bytes of the file or folder at path are
// others than last time, first than those of digest. It watches folders, since
// editors and ConfigMaps replace files. It returns nil when ctx ends.
func watchPolicies(ctx context.Context, path string, digest [sha256.Size]byte, load func(policy.Set, error)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	defer w.Close()
	if err := errors.Join(w.Add(filepath.Dir(path)), addFolder(w, path)); err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			// An overflow loses notifications; the poll finds what they told.
			if err != nil && !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch %s: %w", path, err)
			}
			continue
		case <-w.Events:
		case <-poll.C:
		}
		// A file that is just being written gives a fault and, when it is
		// complete, another digest.
		if d := digestOf(path); d != digest {
			digest = d
			load(policy.Load(path))
		}
	}
}

func addFolder(w *fsnotify.Watcher, path string) error {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return err
	}
	return w.Add(path)
}

// digestOf is the digest of a file, or of the files of a folder with their
// names. What cannot be read counts as empty.
func digestOf(path string) [sha256.Size]byte {
	h := sha256.New()
	files := []string{path}
	if entries, err := os.ReadDir(path); err == nil {
		files = files[:0]
		for _, e := range entries {
			if slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(e.Name())) {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		fmt.Fprintf(h, "%s %d %v\n", f, len(data), err == nil)
		h.Write(data)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
