package peering

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// session is one control stream, dialled or answered.
type session struct {
	key linkstate.LinkKey
	// free: no configured link, because one side is an observer; observer: it
	// is the far one.
	free, observer bool
	// ctx ends with the stream; end ends it from this side, with the reason.
	ctx context.Context
	end context.CancelCauseFunc
	// send and recv are the stream's, each used by one goroutine.
	send func(*dmscv1.PeerMessage) error
	recv func() (*dmscv1.PeerMessage, error)

	out        chan linkstate.Message
	introduced bool          // our Hello is queued; guarded by Peers.mu
	done       chan struct{} // closed when StreamDown has been delivered
}

func (p *Peers) newSession(ctx context.Context) *session {
	s := &session{out: make(chan linkstate.Message, p.cfg.Outbox), done: make(chan struct{})}
	s.ctx, s.end = context.WithCancelCause(ctx)
	return s
}

// reason is why the stream ended from this side, or else err.
func (s *session) reason(err error) error {
	if cause := context.Cause(s.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// enqueue reports whether m could be queued. Before our own Hello everything
// else was meant for an earlier stream, and is left out; so is everything once
// the stream has ended.
func (s *session) enqueue(m linkstate.Message) bool {
	if s.ctx.Err() != nil {
		return true
	}
	if _, ok := m.(*linkstate.Hello); ok {
		s.introduced = true
	}
	if !s.introduced {
		return true
	}
	select {
	case s.out <- m:
		return true
	default:
		return false
	}
}

// run is the life of a stream, from StreamUp to StreamDown. It returns why the
// stream ended. hello is what the answering side has already received.
func (p *Peers) run(s *session, hello *linkstate.Hello) error {
	if err := p.open(s); err != nil {
		return err
	}
	p.counters.sessions.Add(1)
	p.cfg.Log.Info("control stream up", "neighbor", s.key.Remote, "link", s.key.ID)
	p.cfg.Deliver(linkstate.StreamUp{Link: s.key, Observer: s.observer})

	var sending sync.WaitGroup
	sending.Go(func() { s.end(s.sendAll()) })
	if hello != nil {
		p.cfg.Deliver(linkstate.Received{Link: s.key, Message: hello})
	}
	err := p.receiveAll(s)
	s.end(err)
	err = s.reason(err)
	sending.Wait()

	p.counters.sessions.Add(-1)
	p.cfg.Log.Info("control stream down", "neighbor", s.key.Remote, "link", s.key.ID, "err", err)
	p.cfg.Deliver(linkstate.StreamDown{Link: s.key})
	// Only now: a session that is still here is what makes the next one wait.
	p.mu.Lock()
	delete(p.sessions, s.key)
	p.mu.Unlock()
	close(s.done)
	return err
}

// open makes s the stream of its link, once the StreamDown of the one it
// replaces has been delivered.
func (p *Peers) open(s *session) error {
	for {
		p.mu.Lock()
		old := p.sessions[s.key]
		var err error
		switch {
		case p.closed:
			err = errStopped
		case s.free && p.links[s.key]:
			err = status.Errorf(codes.PermissionDenied, "%s is a configured link and no observer's", s.key)
		case !s.free && !p.links[s.key]:
			err = status.Errorf(codes.PermissionDenied, "link %s of %s is not configured at %s", s.key.ID, s.key.Remote, p.cfg.Node)
		case old == nil:
			p.sessions[s.key] = s
		default:
			old.end(errReplaced)
		}
		p.mu.Unlock()
		if err != nil || old == nil {
			return err
		}
		select {
		case <-old.done:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

func (s *session) sendAll() error {
	for {
		select {
		case m := <-s.out:
			err := s.send(encodeMessage(m))
			if errors.Is(err, io.EOF) { // the stream is over, and recv is about to learn why
				<-s.ctx.Done()
			}
			if err != nil {
				return err
			}
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

func (p *Peers) receiveAll(s *session) error {
	for {
		m, err := s.recv()
		if status.Code(err) == codes.ResourceExhausted {
			p.counters.oversizedMessages.Add(1)
			p.log.warn("oversized message ends the control stream", "neighbor", s.key.Remote, "link", s.key.ID, "err", err)
		}
		if err != nil {
			return err
		}
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		if message := p.decode(s, m); message != nil {
			p.cfg.Deliver(linkstate.Received{Link: s.key, Message: message})
		}
	}
}

// decode returns nil for what is counted and ignored.
func (p *Peers) decode(s *session, m *dmscv1.PeerMessage) linkstate.Message {
	message, err := decodeMessage(m, func(err error) {
		p.counters.malformedRecords.Add(1)
		p.log.warn("record not understood", "neighbor", s.key.Remote, "link", s.key.ID, "err", err)
	})
	if errors.Is(err, errUnknownKind) {
		p.counters.unknownMessages.Add(1)
		p.log.warn("unknown message ignored", "neighbor", s.key.Remote, "link", s.key.ID)
		return nil
	}
	if h, ok := message.(*linkstate.Hello); err == nil && ok {
		err = p.checkHello(s, h)
	}
	if err != nil {
		p.counters.malformedMessages.Add(1)
		p.log.warn("malformed message ignored", "neighbor", s.key.Remote, "link", s.key.ID, "err", err)
		return nil
	}
	return message
}

// checkHello holds a hello against the stream it came on: a stream stays the
// one link of the one neighbour that it started as.
func (p *Peers) checkHello(s *session, h *linkstate.Hello) error {
	if h.Node == s.key.Remote && h.Link == s.key.ID && h.Domain == p.cfg.Domain {
		return nil
	}
	return status.Errorf(codes.InvalidArgument, "hello of node %s, link %s, domain %q on the stream of node %s, link %s, domain %q",
		h.Node, h.Link, h.Domain, s.key.Remote, s.key.ID, p.cfg.Domain)
}
