package spa

import (
	"context"

	"github.com/dmsc-mesh/dmsc/internal/watch"
)

// Load puts the grants of a file or folder in force. After an error the
// grants in force stay, and Status says why.
func (s *Server) Load(path string) error {
	w := watch.New(path) // before the read: what changes during it is loaded again
	s.mu.Lock()
	s.watcher = w
	s.mu.Unlock()
	return s.load(path)
}

func (s *Server) load(path string) error {
	grants, err := LoadGrants(path)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastError = err
	if err != nil {
		return err
	}
	s.reload(grants)
	return nil
}

// Watch loads the grants again whenever path has changed since Load, until ctx
// ends. The error is nil.
func (s *Server) Watch(ctx context.Context, path string) error {
	changed := func() {
		if err := s.load(path); err != nil {
			s.log.Error("bad grants file, the last good grants stay in force", "err", err)
		}
	}
	s.mu.Lock()
	w := s.watcher
	s.mu.Unlock()
	if w == nil || w.Path() != path { // not loaded
		w = watch.New(path)
		changed()
	}
	w.Run(ctx, changed, func(err error) { s.log.Warn("changes of the grants may be noticed late", "err", err) })
	return nil
}
