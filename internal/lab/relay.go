package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Relay is a TCP relay that stands for the wire of a link: whoever dials its
// address reaches the target, and both directions can be delayed, limited and
// cut while connections are open. Bytes are never reordered.
//
// It is transparent to failure: while nobody listens at the target, connections
// to the relay are refused by the kernel, as they would be without a relay (an
// Envoy retries a refused connection, and not one that was accepted and then
// reset).
type Relay struct {
	target string
	port   *Port
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	wire     atomic.Pointer[wire]
	to, from line // towards the target, and back

	mu       sync.Mutex // guards what follows and the replacement of wire
	absent   bool       // nobody listens at the target
	listener net.Listener
	pairs    map[*pair]struct{}
}

// wire is the state of the link; it is replaced, never changed.
type wire struct {
	delay          time.Duration
	rate           int64
	cut, blackhole bool
	changed        chan struct{} // closed when it is replaced
}

// absentPoll is how often a target that refuses connections is tried.
const absentPoll = 20 * time.Millisecond

// NewRelay starts a relay to target (host:port) on a port of its own. It ends
// with ctx or Close.
func NewRelay(ctx context.Context, target string) (*Relay, error) {
	port, err := HoldPort()
	if err != nil {
		return nil, fmt.Errorf("relay to %s: %w", target, err)
	}
	r := &Relay{target: target, port: port, pairs: map[*pair]struct{}{}}
	r.ctx, r.cancel = context.WithCancel(ctx)
	r.wire.Store(&wire{changed: make(chan struct{})})
	l, err := net.Listen("tcp", port.Addr())
	if err != nil {
		r.cancel()
		return nil, errors.Join(fmt.Errorf("relay to %s: %w", target, err), port.Close())
	}
	r.listener = l
	r.done.Go(func() { r.serve(l) })
	context.AfterFunc(r.ctx, r.closeAll)
	return r, nil
}

// Addr is where to dial the relay.
func (r *Relay) Addr() string { return r.port.Addr() }

// SetDelay sets how long each byte travels, each way. What is on its way
// already arrives by the new delay, after what was sent before it.
func (r *Relay) SetDelay(d time.Duration) { r.change(func(w *wire) { w.delay = d }) }

// SetRate limits each direction, all connections together, to bit/s; 0 = no
// limit.
func (r *Relay) SetRate(bps int64) { r.change(func(w *wire) { w.rate = bps }) }

// Cut(true) resets all connections and has new ones refused; Cut(false) lets
// new ones in.
func (r *Relay) Cut(cut bool) {
	r.change(func(w *wire) { w.cut = cut })
	if cut {
		r.closeAll()
	}
}

// Blackhole(true) lets nothing pass and tells nobody: connections stay open and
// new ones are accepted. What was sent meanwhile arrives after
// Blackhole(false), as TCP would send it again.
func (r *Relay) Blackhole(on bool) { r.change(func(w *wire) { w.blackhole = on }) }

// Bytes returns how much has passed towards the target and back.
func (r *Relay) Bytes() (to, from uint64) { return r.to.bytes.Load(), r.from.bytes.Load() }

// Close resets all connections and waits until nothing of the relay runs.
func (r *Relay) Close() error {
	r.cancel()
	r.closeAll()
	r.done.Wait()
	return r.port.Close()
}

func (r *Relay) change(f func(*wire)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.wire.Load()
	w := *old
	w.changed = make(chan struct{})
	f(&w)
	r.wire.Store(&w)
	close(old.changed)
}

// closeAll refuses new connections and resets the open ones.
func (r *Relay) closeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopListening()
	for p := range r.pairs {
		p.reset()
	}
}

func (r *Relay) stopListening() {
	if r.listener != nil {
		_ = r.listener.Close()
		r.listener = nil
	}
}

// serve listens whenever the link is whole and the target is there.
func (r *Relay) serve(l net.Listener) {
	for r.ctx.Err() == nil {
		r.accept(l)
		for r.ctx.Err() == nil && !r.passable() {
		}
		var err error
		if l, err = net.Listen("tcp", r.port.Addr()); err != nil {
			l = nil
		}
		r.mu.Lock()
		if l != nil && (r.ctx.Err() != nil || r.wire.Load().cut) {
			_ = l.Close()
			l = nil
		}
		r.listener = l
		r.mu.Unlock()
	}
}

func (r *Relay) accept(l net.Listener) {
	for l != nil {
		c, err := l.Accept()
		if err != nil {
			return
		}
		r.done.Go(func() { r.connect(c.(*net.TCPConn)) })
	}
}

// passable waits a little or for a change, and reports whether connections can
// be let in.
func (r *Relay) passable() bool {
	w := r.wire.Load()
	r.mu.Lock()
	absent := r.absent
	r.mu.Unlock()
	if !w.cut && !absent {
		return true
	}
	var poll <-chan time.Time
	if !w.cut {
		poll = time.After(absentPoll)
	}
	select {
	case <-r.ctx.Done():
	case <-w.changed:
	case <-poll:
		r.look()
	}
	return false
}

// look finds out whether anybody listens at the target. It is asked before the
// end of a target's connection is passed on, so that whoever sees the end and
// dials anew is refused already.
func (r *Relay) look() {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(r.ctx, "tcp", r.target)
	if err == nil {
		_ = c.Close()
	}
	r.found(err)
}

func (r *Relay) found(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.absent = errors.Is(err, syscall.ECONNREFUSED)
	if r.absent {
		r.stopListening()
	}
}

// connect joins an accepted connection with one to the target.
func (r *Relay) connect(near *net.TCPConn) {
	p := &pair{near: near, ended: make(chan struct{})}
	defer p.reset()
	if !r.add(p) {
		return
	}
	defer r.remove(p)
	for w := r.wire.Load(); w.blackhole; w = r.wire.Load() {
		select {
		case <-w.changed:
		case <-p.ended:
			return
		}
	}
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(r.ctx, "tcp", r.target)
	r.found(err)
	if err != nil {
		return
	}
	far := c.(*net.TCPConn)
	if !p.join(far) {
		return
	}
	var pumps sync.WaitGroup
	var there, back bool
	pumps.Go(func() { there = r.pump(p, near, far, &r.to, func() {}) })
	pumps.Go(func() { back = r.pump(p, far, near, &r.from, r.look) })
	pumps.Wait()
	if there && back {
		_ = near.Close() // the kernel still delivers what it has taken
		_ = far.Close()
	}
}

// add reports whether p may live; the link may have been cut meanwhile.
func (r *Relay) add(p *pair) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil || r.wire.Load().cut {
		return false
	}
	r.pairs[p] = struct{}{}
	return true
}

func (r *Relay) remove(p *pair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pairs, p)
}

// pair is one relayed connection.
type pair struct {
	near  *net.TCPConn
	ended chan struct{} // closed by reset

	mu  sync.Mutex
	far *net.TCPConn
	end bool
}

func (p *pair) join(far *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end {
		_ = far.Close()
		return false
	}
	p.far = far
	return true
}

func (p *pair) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// reset ends both sides at once: whoever is still connected reads "connection
// reset".
func (p *pair) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end {
		return
	}
	p.end = true
	close(p.ended)
	for _, c := range []*net.TCPConn{p.near, p.far} {
		if c != nil {
			_ = c.SetLinger(0)
			_ = c.Close()
		}
	}
}
