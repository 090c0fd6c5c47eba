package peering

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Register puts LinkStateService on s, which was made with ServerOptions.
func (p *Peers) Register(s grpc.ServiceRegistrar) {
	dmscv1.RegisterLinkStateServiceServer(s, service{peers: p})
}

type service struct {
	dmscv1.UnimplementedLinkStateServiceServer
	peers *Peers
}

// Peer answers the control stream of one link. The stream lives on a goroutine
// of its own, so that it can be ended from this side: only the return of this
// handler interrupts a receive.
func (v service) Peer(stream dmscv1.LinkStateService_PeerServer) error {
	p := v.peers
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return status.Error(codes.Unavailable, errStopped.Error())
	}
	p.running.Add(1) // under the lock, hence before Run waits
	p.mu.Unlock()

	s := p.newSession(stream.Context())
	s.send = func(m *dmscv1.PeerMessage) error { return stream.Send(&dmscv1.PeerResponse{Message: m}) }
	s.recv = func() (*dmscv1.PeerMessage, error) {
		r, err := stream.Recv()
		return r.GetMessage(), err
	}
	go func() {
		defer p.running.Done()
		s.end(p.answer(s, stream))
	}()
	select {
	case <-s.ctx.Done():
	case <-p.stopped:
		s.end(errStopped)
	}
	return answerStatus(context.Cause(s.ctx))
}

func (p *Peers) answer(s *session, stream dmscv1.LinkStateService_PeerServer) error {
	if err := stream.SendHeader(metadata.Pairs(nodeHeader, string(p.cfg.Node))); err != nil {
		return err
	}
	silent := time.AfterFunc(setUp, func() { s.end(errSilent) })
	defer silent.Stop()
	m, err := s.recv()
	if err != nil {
		return err
	}
	silent.Stop()
	hello, err := p.introduction(m)
	if err == nil {
		s.key = linkstate.LinkKey{Remote: hello.Node, ID: hello.Link}
		s.observer = hello.Role == dmsc.RoleObserver
		s.free = s.observer
		err = p.run(s, hello)
	}
	if code := status.Code(err); code == codes.PermissionDenied || code == codes.InvalidArgument {
		p.counters.refused.Add(1)
		p.log.warn("control stream refused", "err", err)
	}
	return err
}

// introduction reads the first message of a stream.
func (p *Peers) introduction(m *dmscv1.PeerMessage) (*linkstate.Hello, error) {
	message, err := decodeMessage(m, func(error) {})
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "first message: %v", err)
	}
	hello, ok := message.(*linkstate.Hello)
	switch {
	case !ok:
		return nil, status.Error(codes.InvalidArgument, "first message is no hello")
	case hello.Domain != p.cfg.Domain:
		return nil, status.Errorf(codes.PermissionDenied, "node %s is of domain %q, %s of domain %q", hello.Node, hello.Domain, p.cfg.Node, p.cfg.Domain)
	case hello.Node == p.cfg.Node:
		return nil, status.Errorf(codes.PermissionDenied, "%s is the name of this node", hello.Node)
	case hello.Role != dmsc.RoleObserver && hello.Node > p.cfg.Node:
		return nil, status.Errorf(codes.PermissionDenied, "links between %s and %s are dialled by %s", p.cfg.Node, hello.Node, p.cfg.Node)
	}
	return hello, nil
}

// answerStatus is what the dialling side is told.
func answerStatus(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
		return nil
	case errors.Is(err, errStopped):
		return status.Error(codes.Unavailable, err.Error())
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Aborted, err.Error())
}
