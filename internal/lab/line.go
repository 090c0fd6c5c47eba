package lab

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// line is one direction of a relay: what all its connections share.
type line struct {
	bytes atomic.Uint64
	mu    sync.Mutex
	free  time.Time // when what has been admitted will have left, at the rate
}

// chunk is what one read brought: bytes, or the end of the stream.
type chunk struct {
	buffer *[chunkSize]byte
	length int
	at     time.Time
	err    error
}

const (
	chunkSize = 32 << 10
	// chunks in flight per connection and direction; above it the sender waits.
	// 16 MiB, what a link of 1 Gbit/s holds in 130 ms.
	inFlight = 512
	// burst is how long one write may take at the rate: small enough for a slow
	// link to look like one, large enough for timers.
	burst = 5 * time.Millisecond
)

var buffers = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// pump carries src to dst until the stream ends, and passes the end on: an end
// as an end, a reset as a reset. It reports which it was. ending is called as
// soon as src has ended by itself.
func (r *Relay) pump(p *pair, src, dst *net.TCPConn, l *line, ending func()) (orderly bool) {
	queue := make(chan chunk, inFlight)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(queue)
		for {
			c := chunk{buffer: buffers.Get().(*[chunkSize]byte)}
			c.length, c.err = src.Read(c.buffer[:])
			if c.err != nil && !p.hasEnded() {
				ending()
			}
			c.at = time.Now()
			if !p.put(queue, c) || c.err != nil {
				return
			}
		}
	})
	defer reading.Wait()
	for c := range queue {
		if !r.deliver(p, dst, l, c) {
			p.reset()
			return false
		}
		buffers.Put(c.buffer)
	}
	return !p.hasEnded()
}

func (p *pair) put(queue chan<- chunk, c chunk) bool {
	select {
	case queue <- c:
		return true
	case <-p.ended:
		return false
	}
}

// deliver writes c to dst when it has come through the wire.
func (r *Relay) deliver(p *pair, dst *net.TCPConn, l *line, c chunk) bool {
	for rest := c.buffer[:c.length]; len(rest) > 0; {
		w, ok := r.travel(p, c.at)
		if !ok {
			return false
		}
		n := len(rest)
		if w.rate > 0 {
			n = min(n, max(1, int(float64(w.rate)/8*burst.Seconds())))
			if !p.sleep(w, l.admit(n, w.rate)) {
				return false
			}
			if r.wire.Load() != w {
				continue // the wire is another one now
			}
		}
		if _, err := dst.Write(rest[:n]); err != nil {
			return false
		}
		l.bytes.Add(uint64(n))
		rest = rest[n:]
	}
	if c.err == nil {
		return true
	}
	_, ok := r.travel(p, c.at)
	return ok && errors.Is(c.err, io.EOF) && dst.CloseWrite() == nil
}

// travel waits until what was sent at that time has come through the wire, and
// returns the wire as it is then.
func (r *Relay) travel(p *pair, at time.Time) (*wire, bool) {
	for {
		w := r.wire.Load()
		if w.delay == 0 && !w.blackhole {
			return w, true
		}
		wait := time.Until(at.Add(w.delay))
		if wait <= 0 && !w.blackhole {
			return w, true
		}
		if !p.sleep(w, wait) {
			return w, false
		}
	}
}

// sleep waits for d, in a black hole for ever, or until the wire changes. It
// reports false when the connection has ended.
func (p *pair) sleep(w *wire, d time.Duration) bool {
	var elapsed <-chan time.Time
	if !w.blackhole {
		if d <= 0 {
			return true
		}
		elapsed = time.After(d)
	}
	select {
	case <-elapsed:
	case <-w.changed:
	case <-p.ended:
		return false
	}
	return true
}

// admit returns how long n bytes have to wait to leave at rate bit/s, behind
// all that was admitted before.
func (l *line) admit(n int, rate int64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	wait := l.free.Sub(now)
	l.free = l.free.Add(time.Duration(float64(n) * 8 / float64(rate) * float64(time.Second)))
	return wait
}
