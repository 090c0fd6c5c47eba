package spa

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How a change of the grants is noticed. A file is read when it has been left
// alone for settle, since half a file can be valid YAML and would revoke the
// other half. The check every recheck is for mounts that report no events.
const (
	settle  = 100 * time.Millisecond
	patient = time.Second // with a folder that is never left alone
	recheck = 2 * time.Second
)

// Load puts the grants of a file or folder in force. After an error the
// grants in force stay, and Status says why.
func (s *Server) Load(path string) error {
	digest, err := digestOf(path)
	var grants []Grant
	if err == nil {
		grants, err = LoadGrants(path)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.digest, s.lastError = digest, err
	if err != nil {
		return err
	}
	s.reload(grants)
	return nil
}

// Watch loads the grants again whenever path has changed, until ctx ends. It
// watches the folder, so that a file replaced by renaming is seen too.
func (s *Server) Watch(ctx context.Context, path string) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch grants: %w", err)
	}
	defer w.Close()
	folder := path
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		folder = filepath.Dir(path)
	}
	if err := w.Add(folder); err != nil {
		return fmt.Errorf("watch grants in %s: %w", folder, err)
	}
	return s.watch(ctx, path, w.Events, w.Errors)
}

// watch is Watch without the file system's events.
func (s *Server) watch(ctx context.Context, path string, events <-chan fsnotify.Event, faults <-chan error) error {
	look := time.NewTimer(settle)
	defer look.Stop()
	var since time.Time // of the first event not looked at
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
			if since.IsZero() {
				since = time.Now()
			}
			if time.Since(since) < patient {
				look.Reset(settle)
			}
		case err := <-faults: // events were lost: look by ourselves
			s.log.Warn("watching the grants", "err", err)
			look.Reset(settle)
		case <-look.C:
			since = time.Time{}
			s.reloadIfChanged(path)
			look.Reset(recheck)
		}
	}
}

func (s *Server) reloadIfChanged(path string) {
	digest, err := digestOf(path)
	s.mu.Lock()
	same := err == nil && digest == s.digest || err != nil && s.lastError != nil && err.Error() == s.lastError.Error()
	s.mu.Unlock()
	if same {
		return
	}
	if err := s.Load(path); err != nil {
		s.log.Error("bad grants file, the last good grants stay in force", "err", err)
	}
}

// digestOf hashes the content behind path.
func digestOf(path string) (string, error) {
	files := []string{path}
	if entries, err := os.ReadDir(path); err == nil {
		files = nil
		for _, e := range entries {
			if !e.IsDir() {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
	}
	var all bytes.Buffer
	for _, f := range files {
		data, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) && len(files) > 1 {
			continue // removed since the listing
		}
		if err != nil {
			return "", fmt.Errorf("load grants: %w", err)
		}
		fmt.Fprintf(&all, "%s\x00%d\x00", f, len(data))
		all.Write(data)
	}
	return fmt.Sprintf("%x", sha256.Sum256(all.Bytes())), nil
}
