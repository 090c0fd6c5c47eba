package peering

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Redialling: at once, then after 50 ms, then every 80 ms: a link that is healed
// shall carry routes again within 100 ms. Where many links are down, all of them
// together are dialled 500 times a second. A stream that was up for settled
// starts anew; a shorter one was refused or is flapping.
const (
	firstDelay = 50 * time.Millisecond
	lastDelay  = 80 * time.Millisecond
	dialShare  = 2 * time.Millisecond
	settled    = time.Second
)

// nodeHeader is the response header with the NodeID of the answering side.
const nodeHeader = "dmsc-node"

// keepDialled dials t until ctx ends.
func (p *Peers) keepDialled(ctx context.Context, t target) {
	var delay time.Duration
	var reported string
	for {
		up, err := p.dial(ctx, t)
		if ctx.Err() != nil {
			return
		}
		if up >= settled {
			delay, reported = 0, ""
		}
		if up == 0 && err.Error() != reported { // a failure that goes on is reported once
			reported = err.Error()
			p.cfg.Log.Info("control stream not dialled", "neighbor", t.key.Remote, "link", t.key.ID, "address", t.address, "err", err)
		}
		if delay > 0 {
			p.pause(ctx, t, jitter(delay))
		}
		if ctx.Err() != nil {
			return
		}
		delay = min(max(2*delay, firstDelay), lastDelay)
	}
}

// pause waits for d, longer among many, or for Redial or the end of ctx.
func (p *Peers) pause(ctx context.Context, t target, d time.Duration) {
	now := make(chan struct{}, 1)
	p.mu.Lock()
	p.waiting[t] = now
	d = max(d, time.Duration(len(p.waiting)-1)*dialShare)
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.waiting, t)
		p.mu.Unlock()
	}()
	select {
	case <-time.After(d):
	case <-now:
	case <-ctx.Done():
	}
}

// jitter spreads d over ± 20 %.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// dial runs one stream from its dialling to its end, and returns how long it
// was up.
func (p *Peers) dial(ctx context.Context, t target) (time.Duration, error) {
	// A connection of its own per attempt: the delays are ours and not gRPC's,
	// and links do not share the fate of one socket.
	conn, err := grpc.NewClient("passthrough:///"+t.address, p.dialOptions()...)
	if err != nil {
		return 0, fmt.Errorf("dial %s: %w", t.address, err)
	}
	defer conn.Close()
	s := p.newSession(ctx)
	defer s.end(nil)

	silent := time.AfterFunc(setUp, func() { s.end(errSilent) })
	defer silent.Stop()
	stream, err := dmscv1.NewLinkStateServiceClient(conn).Peer(s.ctx)
	if err == nil {
		s.key, err = answering(stream, t)
	}
	if err != nil {
		return 0, fmt.Errorf("dial %s: %w", t.address, s.reason(err))
	}
	silent.Stop()
	s.free = t.key == linkstate.LinkKey{}
	s.send = func(m *dmscv1.PeerMessage) error { return stream.Send(&dmscv1.PeerRequest{Message: m}) }
	s.recv = func() (*dmscv1.PeerMessage, error) {
		r, err := stream.Recv()
		return r.GetMessage(), err
	}
	began := time.Now()
	err = p.run(s, nil)
	return time.Since(began), err
}

// answering returns the link that a dialled stream is, by the NodeID in its
// header.
func answering(stream dmscv1.LinkStateService_PeerClient, t target) (linkstate.LinkKey, error) {
	header, err := stream.Header()
	if err != nil {
		return linkstate.LinkKey{}, err
	}
	values := header.Get(nodeHeader)
	if len(values) != 1 {
		if _, err := stream.Recv(); err != nil { // refused without a header: the reason
			return linkstate.LinkKey{}, err
		}
		return linkstate.LinkKey{}, fmt.Errorf("answer has no header %s: not a peering address", nodeHeader)
	}
	node, err := dmsc.ParseNodeID(values[0])
	if err != nil {
		return linkstate.LinkKey{}, fmt.Errorf("header %s: %w", nodeHeader, err)
	}
	if t.key == (linkstate.LinkKey{}) {
		return linkstate.LinkKey{Remote: node, ID: ObserverLink}, nil
	}
	if node != t.key.Remote {
		return linkstate.LinkKey{}, fmt.Errorf("is the address of node %s, not of %s", node, t.key.Remote)
	}
	return t.key, nil
}
