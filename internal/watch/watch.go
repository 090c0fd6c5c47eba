// Package watch notices when the content of an operator's file, or of a folder
// of *.yaml and *.yml, has become another.
//
//	w := watch.New(path) // before the first load: what changes after it is noticed
//	load(path)
//	go w.Run(ctx, func() { load(path) }, func(err error) { log.Warn(…) })
//
// A change is told when the path has been left alone for a while, since half a
// YAML file can be valid and would take the other half out of force. Content
// counts, not times or events: a file written again as it was is no change. A
// file that vanishes or cannot be read is one; whoever loads it says what is
// wrong. Files that the content names count as well when Also says so.
package watch

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/dmsc-mesh/dmsc/internal/regular"
)

const (
	settle  = 100 * time.Millisecond // without an event before a look; two looks must agree
	patient = time.Second            // with what is never left alone
	recheck = time.Second            // for mounts that report no events
)

// Watcher tells one path's content from what it was before.
type Watcher struct {
	path string
	also []string
	seen state
}

// state is what there was at a look.
type state struct{ path, also digest }

// New returns a watcher that takes the content of this moment as known.
func New(path string) *Watcher {
	w := &Watcher{path: path}
	w.seen = w.look()
	return w
}

// Path is what is watched.
func (w *Watcher) Path() string { return w.path }

// Also has Run look at these files, too, instead of those of the call before, and
// takes their content of this moment as known: call it before they are read. It
// is for before Run, and for changed.
func (w *Watcher) Also(files []string) { w.also, w.seen.also = files, digestOf(files...) }

// Run calls changed 200 ms after each change, or 1.1 s where no event tells of
// it; a path that is never left alone is told of each second all the same. It
// calls warn when events were lost, or there are none to be had (a folder that is
// not there, a limit of the system), which only delays. Run itself calls both,
// and runs once at a time. It returns when ctx ends.
func (w *Watcher) Run(ctx context.Context, changed func(), warn func(error)) {
	events, err := w.events()
	if err != nil {
		warn(err)
		w.run(ctx, nil, nil, changed, warn)
		return
	}
	defer events.Close()
	w.run(ctx, events.Events, events.Errors, changed, warn)
}

// events are those of the file system, of the folder of a file: a file is
// replaced by renaming another, and its folder reports that.
func (w *Watcher) events() (*fsnotify.Watcher, error) {
	events, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", w.path, err)
	}
	folder := w.path
	if info, err := os.Stat(w.path); err != nil || !info.IsDir() {
		folder = filepath.Dir(w.path)
	}
	if err := events.Add(folder); err != nil {
		events.Close()
		return nil, fmt.Errorf("watch %s: %w", folder, err)
	}
	return events, nil
}

// run is Run without the file system's events.
func (w *Watcher) run(ctx context.Context, events <-chan fsnotify.Event, faults <-chan error, changed func(), warn func(error)) {
	look := time.NewTimer(settle) // at what happened since New
	defer look.Stop()
	last := w.seen      // by the last look
	var since time.Time // of the first sign that something is being written
	overdue := func() bool { return !since.IsZero() && time.Since(since) >= patient }
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			now := w.look()
			alone := now == last
			last = now
			if alone || overdue() {
				since = time.Time{}
				if now != w.seen {
					w.seen = now // before the load: what changes during it is the next change
					changed()
				}
				look.Reset(recheck)
				continue
			}
			// The look may have come in the middle of a write, and where there
			// are no events nothing else tells of it: two looks must agree.
			look.Reset(settle)
		case err := <-faults:
			warn(err)
		case <-events:
		}
		if since.IsZero() {
			since = time.Now()
		}
		if !overdue() {
			look.Reset(settle)
		}
	}
}

func (w *Watcher) look() state { return state{digestOf(filesOf(w.path)...), digestOf(w.also...)} }

// filesOf are a file, or the files of a folder that are loaded from it.
func filesOf(path string) []string {
	entries, err := os.ReadDir(path)
	if err != nil {
		return []string{path}
	}
	var files []string
	for _, e := range entries { // sorted by name
		if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	return files
}

type digest [sha256.Size]byte

// digestOf is the digest of files, with their names and with why one cannot be
// read.
func digestOf(files ...string) digest {
	h := sha256.New()
	for _, f := range files {
		data, err := regular.ReadFile(f)
		fmt.Fprintf(h, "%q %d %v\n", f, len(data), err)
		h.Write(data)
	}
	return digest(h.Sum(nil))
}
