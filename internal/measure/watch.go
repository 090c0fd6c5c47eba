package measure

import (
	"context"
	"errors"
	"maps"
	"sync"
)

// watch runs a function for each of a changing set of keys, for as long as the
// key is wanted.
type watch[K comparable] struct {
	each func(ctx context.Context, key K) // returns soon after ctx has ended

	mu      sync.Mutex
	wanted  map[K]bool
	running map[K]context.CancelFunc
	ctx     context.Context // of run; nil before
	active  sync.WaitGroup
}

func newWatch[K comparable](each func(context.Context, K)) *watch[K] {
	return &watch[K]{each: each, running: make(map[K]context.CancelFunc)}
}

// set replaces the wanted keys; those that stay are not disturbed.
func (w *watch[K]) set(wanted map[K]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = wanted
	w.reconcile()
}

// reconcile starts and stops; w.mu is held.
func (w *watch[K]) reconcile() {
	if w.ctx == nil {
		return
	}
	maps.DeleteFunc(w.running, func(key K, stop context.CancelFunc) bool {
		if !w.wanted[key] {
			stop()
		}
		return !w.wanted[key]
	})
	for key := range w.wanted {
		if w.running[key] == nil {
			ctx, stop := context.WithCancel(w.ctx)
			w.running[key] = stop
			w.active.Go(func() { w.each(ctx, key) })
		}
	}
}

// run watches until ctx ends; then it waits for the functions to return.
func (w *watch[K]) run(ctx context.Context) error {
	w.mu.Lock()
	if w.ctx != nil {
		w.mu.Unlock()
		return errors.New("measure: runs already")
	}
	w.ctx = ctx
	w.reconcile()
	w.mu.Unlock()

	<-ctx.Done()
	w.set(nil)
	w.active.Wait()
	return nil
}
