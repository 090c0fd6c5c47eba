package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// tally counts what each of many streams does once.
type tally struct {
	want int64
	done chan struct{} // closed by the last one

	mu sync.Mutex
	at []time.Time
}

func newTally(want int) *tally {
	return &tally{want: int64(want), done: make(chan struct{}), at: make([]time.Time, 0, want)}
}

func (t *tally) add() {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at = append(t.at, now); int64(len(t.at)) == t.want {
		close(t.done)
	}
}

// wait waits until all have done it.
func (t *tally) wait(ctx context.Context) error {
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		t.mu.Lock()
		defer t.mu.Unlock()
		return fmt.Errorf("%d of %d streams have answered: %w", len(t.at), t.want, ctx.Err())
	}
}

// since are the times from t0 on, in milliseconds, in their order.
func (t *tally) since(t0 time.Time) (out []float64) {
	for _, at := range t.at {
		out = append(out, milliseconds(at.Sub(t0)))
	}
	return out
}

// wire looks at the messages of a server's streams, whatever server it is.
type wire struct {
	watched  atomic.Pointer[watch]
	requests atomic.Int64
	last     atomic.Int64 // unix nanoseconds of the last message
}

// watch waits for an ACK of one type from each stream.
type watch struct {
	url  string
	sent atomic.Int64 // unix nanoseconds of the first response since
	*tally
}

// watch counts from now on.
func (w *wire) watch(url string, streams int) *watch {
	next := &watch{url: url, tally: newTally(streams)}
	w.watched.Store(next)
	return next
}

// count is the interceptor of a gRPC server.
func (w *wire) count(srv any, str grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, &countedStream{ServerStream: str, wire: w})
}

type countedStream struct {
	grpc.ServerStream
	wire  *wire
	acked *watch // the last one that this stream has counted for
}

func (c *countedStream) SendMsg(m any) error {
	now := time.Now().UnixNano()
	c.wire.last.Store(now)
	if w := c.wire.watched.Load(); w != nil {
		w.sent.CompareAndSwap(0, now)
	}
	return c.ServerStream.SendMsg(m)
}

func (c *countedStream) RecvMsg(m any) error {
	if err := c.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	c.wire.last.Store(time.Now().UnixNano())
	c.wire.requests.Add(1)
	r, ok := m.(interface {
		GetTypeUrl() string
		GetResponseNonce() string
	})
	if w := c.wire.watched.Load(); ok && w != nil && w != c.acked && r.GetResponseNonce() != "" && r.GetTypeUrl() == w.url {
		c.acked = w
		w.add()
	}
	return nil
}
