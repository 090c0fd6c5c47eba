package watch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// watched is a Watcher that runs in a bubble, with events told by the test.
type watched struct {
	path   string
	events chan fsnotify.Event
	faults chan error

	mu      sync.Mutex
	changes []change
	warned  []error
}

// change is one call of changed: when, and what a loader read then.
type change struct {
	at   time.Duration // since the start
	text string
}

// inBubble runs scene with a file that says "old" when the Watcher is made and
// between when it starts to run.
func inBubble(t *testing.T, between string, scene func(t *testing.T, w *watched)) {
	synctest.Test(t, func(t *testing.T) {
		w := &watched{
			path:   filepath.Join(t.TempDir(), "f.yaml"),
			events: make(chan fsnotify.Event), faults: make(chan error),
		}
		write(t, w.path, "old")
		watcher, start := New(w.path), time.Now()
		write(t, w.path, between)
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go watcher.run(ctx, w.events, w.faults, func() {
			text, err := os.ReadFile(w.path)
			if err != nil {
				text = []byte("no file")
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changes = append(w.changes, change{time.Since(start), string(text)})
		}, func(err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.warned = append(w.warned, err)
		})
		scene(t, w)
	})
}

// after lets d pass and what is due then happen.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *watched) write(t *testing.T, text string) {
	t.Helper()
	write(t, w.path, text)
	w.events <- fsnotify.Event{}
}

func (w *watched) want(t *testing.T, changes ...change) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.changes, changes) {
		t.Errorf("changes %v, want %v", w.changes, changes)
	}
}

const ms = time.Millisecond

func TestAFileIsReadWhenItHasBeenLeftAlone(t *testing.T) {
	inBubble(t, "old", func(t *testing.T, w *watched) {
		after(500 * ms)
		w.write(t, "half")
		after(99 * ms)
		w.write(t, "half, whole")
		after(199 * ms)
		w.want(t)
		after(1 * ms)
		w.want(t, change{799 * ms, "half, whole"})
		after(10 * time.Second)
		w.want(t, change{799 * ms, "half, whole"})
	})
}

func TestAFileThatIsNeverLeftAloneIsReadAfterASecond(t *testing.T) {
	inBubble(t, "old", func(t *testing.T, w *watched) {
		for range 25 {
			w.write(t, "new")
			after(50 * ms)
		}
		w.want(t, change{1050 * ms, "new"})
	})
}

func TestAChangeBeforeTheWatchBeganIsNoticed(t *testing.T) {
	inBubble(t, "new", func(t *testing.T, w *watched) {
		after(200 * ms)
		w.want(t, change{200 * ms, "new"})
	})
}

func TestAChangeWithoutAnEventIsNoticedWithinASecond(t *testing.T) {
	inBubble(t, "old", func(t *testing.T, w *watched) {
		after(500 * ms)
		write(t, w.path, "new")
		after(700 * ms)
		w.want(t, change{1200 * ms, "new"})
	})
}

func TestALookInTheMiddleOfAWriteWithoutEventsWaitsForTheRest(t *testing.T) {
	inBubble(t, "old", func(t *testing.T, w *watched) {
		after(1050 * ms)
		for _, text := range []string{"a", "ab", "abc"} { // looks at 1.1, 1.2, 1.3 s
			write(t, w.path, text)
			after(100 * ms)
		}
		w.want(t)
		after(50 * ms)
		w.want(t, change{1400 * ms, "abc"})
	})
}

func TestLostEventsAreToldAndLookedFor(t *testing.T) {
	inBubble(t, "old", func(t *testing.T, w *watched) {
		after(500 * ms)
		write(t, w.path, "new")
		w.faults <- fsnotify.ErrEventOverflow
		after(200 * ms)
		w.want(t, change{700 * ms, "new"})
		if len(w.warned) != 1 || !errors.Is(w.warned[0], fsnotify.ErrEventOverflow) {
			t.Errorf("warned of %v", w.warned)
		}
	})
}

func TestTheSameContentIsNoChange(t *testing.T) {
	inBubble(t, "old", func(t *testing.T, w *watched) {
		w.write(t, "old")
		after(10 * time.Second)
		w.want(t)
	})
}

func TestAFileThatVanishesAndComesBackChangesTwice(t *testing.T) {
	inBubble(t, "old", func(t *testing.T, w *watched) {
		if err := os.Remove(w.path); err != nil {
			t.Fatal(err)
		}
		after(10*time.Second - 200*ms)
		w.write(t, "old")
		after(200 * ms)
		w.want(t, change{200 * ms, "no file"}, change{10 * time.Second, "old"})
	})
}

func TestAFolderIsItsYAMLFiles(t *testing.T) {
	for _, c := range []struct {
		what    string
		act     func(dir string) error
		changes bool
	}{
		{"another file", func(dir string) error { return os.WriteFile(dir+"/b.yml", nil, 0o600) }, true},
		{"a file changed", func(dir string) error { return os.WriteFile(dir+"/a.yaml", []byte("new"), 0o600) }, true},
		{"a file renamed", func(dir string) error { return os.Rename(dir+"/a.yaml", dir+"/b.yaml") }, true},
		{"a file removed", func(dir string) error { return os.Remove(dir + "/a.yaml") }, true},
		{"a file that leads nowhere", func(dir string) error { return os.Symlink("nowhere", dir+"/b.yaml") }, true},
		{"all removed", os.RemoveAll, true},
		{"an editor's file", func(dir string) error { return os.WriteFile(dir+"/a.yaml.swp", nil, 0o600) }, false},
		{"a folder in the folder", func(dir string) error { return os.Mkdir(dir+"/b.yaml", 0o700) }, false},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "a.yaml"), "old")
		w := New(dir)
		if err := c.act(dir); err != nil {
			t.Fatal(err)
		}
		if (w.look() != w.seen) != c.changes {
			t.Errorf("%s: a change %t, want %t", c.what, !c.changes, c.changes)
		}
	}
}

// What a document names is elsewhere, where no event tells of it.
func TestAFileThatTheContentNamesCountsUntilItIsNamedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path, named := filepath.Join(dir, "f.yaml"), filepath.Join(dir, "ca.pem")
		write(t, path, "old")
		write(t, named, "old")
		w := New(path)
		w.Also([]string{named})
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		changes := 0
		go w.run(ctx, nil, nil, func() {
			changes++
			w.Also(nil)
		}, nil)
		after(5 * time.Second)
		if changes != 0 {
			t.Fatalf("%d changes before the first", changes)
		}
		for range 2 {
			write(t, named, strings.Repeat("new", 1+changes))
			after(5 * time.Second)
			if changes != 1 {
				t.Errorf("%d changes, want 1", changes)
			}
		}
	})
}

// The file system's own events, with a file replaced as editors and Kubernetes
// do it. Five changes take a second, and more than four by rechecks.
func TestRunSeesAFileReplacedByRenaming(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f.yaml")
	for _, watched := range []string{path, dir} {
		write(t, path, "old")
		w, start := New(watched), time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		changes, done := make(chan string), make(chan struct{})
		go func() {
			defer close(done)
			w.Run(ctx, func() {
				text, err := os.ReadFile(path)
				if err != nil {
					t.Error(err)
				}
				changes <- string(text)
			}, func(err error) { t.Error(err) })
		}()
		for _, text := range []string{"1", "2", "3", "4", "5"} {
			write(t, path+".new", text)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
			if got := <-changes; got != text {
				t.Errorf("a change of %s was told with %q, want %q", watched, got, text)
			}
		}
		if took := time.Since(start); took > 4*recheck {
			t.Errorf("the changes of %s took %v: no event was heard", watched, took)
		}
		cancel()
		<-done
	}
}

// What cannot be watched, since it is not there yet, is looked at all the same.
func TestRunSeesAFileInAFolderThatComesLater(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "none")
	path := filepath.Join(folder, "f.yaml")
	w := New(path)
	ctx, cancel := context.WithCancel(t.Context())
	changes, warnings, done := make(chan struct{}, 8), make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx, func() { changes <- struct{}{} }, func(err error) { warnings <- err })
	}()
	if err := <-warnings; !strings.HasPrefix(err.Error(), "watch "+folder+": ") {
		t.Errorf("warning %v", err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, path, "new")
	<-changes
	cancel()
	<-done
}

func TestAFIFOInAFolderHoldsNobody(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "a.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := New(dir)
	write(t, filepath.Join(dir, "b.yaml"), "new")
	if w.look() == w.seen {
		t.Error("the change beside it is not seen")
	}
}
