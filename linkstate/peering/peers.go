package peering

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Keepalive and header limits of control streams. The answering side pings
// every second and gives up after two more. grpc-go raises a dialler's interval
// to 10 s, so there the same timeout acts as TCP_USER_TIMEOUT: two seconds
// after an unacknowledged hello. Neither is what detects a dead link (design
// §4: the data path is).
const (
	pingInterval  = time.Second
	pingTimeout   = 2 * time.Second
	pingMinimum   = 500 * time.Millisecond
	maxHeaderList = 16 << 10
	setUp         = 5 * time.Second // longest wait for the header or the first hello
)

// defaultOutbox is the number of messages that may wait for one neighbour. The
// core's own window is far smaller; what fills this is a neighbour that reads
// nothing.
const defaultOutbox = 1024

// Config configures Peers.
type Config struct {
	Log    *slog.Logger
	Node   dmsc.NodeID
	Domain string
	// Deliver takes StreamUp, Received and StreamDown. It is called from the
	// goroutines of the streams and must not block any more once the context of
	// Run has ended. A stream is read on when it returns: if it waits until the
	// event has been dealt with, a neighbour that sends too much delays itself
	// alone, by the flow control of its stream.
	Deliver func(linkstate.Event)
	// Outbox is the number of messages that may wait per stream; 0 = 1024.
	Outbox int
	// DialOptions are added to those of every dialled link: credentials, a
	// dialer. The default is plain text.
	DialOptions []grpc.DialOption
}

// Link is one configured link. Address (host:port of the far end's peering
// listener) is needed only if the far end has the higher NodeID.
type Link struct {
	Key     linkstate.LinkKey
	Address string
}

// Peers holds the control streams of one node. All methods may be called from
// any goroutine, and none but Run waits for anything.
type Peers struct {
	cfg      Config
	log      sparse
	counters counters

	stopped chan struct{} // closed when Run is ending: nothing new may start
	changed chan struct{} // capacity 1: wanted has changed
	running sync.WaitGroup

	mu       sync.Mutex // guards what follows; never held while delivering
	closed   bool
	wanted   map[target]bool
	links    map[linkstate.LinkKey]bool
	waiting  map[target]chan struct{} // to be dialled again, of capacity 1
	sessions map[linkstate.LinkKey]*session
}

// target is something to dial and to keep dialled. Key is zero for an observed
// node: whose address it is, the answer tells.
type target struct {
	key     linkstate.LinkKey
	address string
}

// New returns the Peers of a node. Nothing is dialled before Run.
func New(cfg Config) *Peers {
	cfg.Outbox = cmp.Or(cfg.Outbox, defaultOutbox)
	return &Peers{
		cfg:      cfg,
		log:      sparse{log: cfg.Log, last: map[string]*occurrence{}},
		stopped:  make(chan struct{}),
		changed:  make(chan struct{}, 1),
		wanted:   map[target]bool{},
		links:    map[linkstate.LinkKey]bool{},
		waiting:  map[target]chan struct{}{},
		sessions: map[linkstate.LinkKey]*session{},
	}
}

// ServerOptions are the limits that a gRPC server needs on which Peers are
// registered (notes/security.md §4.3).
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(100),
		grpc.MaxHeaderListSize(maxHeaderList),
		grpc.ConnectionTimeout(setUp),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingMinimum, PermitWithoutStream: true}),
	}
}

func (p *Peers) dialOptions() []grpc.DialOption {
	return append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: setUp}),
		grpc.WithMaxHeaderListSize(maxHeaderList),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: pingTimeout}),
	}, p.cfg.DialOptions...)
}

// SetLinks replaces the configured links: those for which this node has the
// lower NodeID are dialled, the others may be dialled by their far end. The
// streams of links no longer named end.
func (p *Peers) SetLinks(links []Link) {
	p.mu.Lock()
	for t := range p.wanted {
		if t.key != (linkstate.LinkKey{}) {
			delete(p.wanted, t)
		}
	}
	clear(p.links)
	for _, l := range links {
		p.links[l.Key] = true
		if p.cfg.Node < l.Key.Remote {
			p.wanted[target{l.Key, l.Address}] = true
		}
	}
	for key, s := range p.sessions {
		if !s.free && !p.links[key] {
			s.end(errRemoved)
		}
	}
	p.mu.Unlock()
	p.wake()
}

// Observe replaces the addresses, one per node, that are dialled as an
// observer. Their streams come up under the NodeID that the far end has given
// and the link id ObserverLink. The core of an observer wants its links
// configured like any other (StreamUp.Observer is about the far end, hence
// false here), so its loop adds the link to those it knows by
// linkstate.SetLinks when it meets such a StreamUp, before it steps it.
func (p *Peers) Observe(addresses []string) {
	p.mu.Lock()
	for t := range p.wanted {
		if t.key == (linkstate.LinkKey{}) {
			delete(p.wanted, t)
		}
	}
	for _, a := range addresses {
		p.wanted[target{address: a}] = true
	}
	p.mu.Unlock()
	p.wake()
}

// ObserverLink is the link id of an observer's session.
const ObserverLink dmsc.LinkID = "observer"

// Send hands messages to their streams, in order per link, and never waits. A
// message for a link without a stream is dropped; a stream whose outbox is full
// is ended, and no other.
func (p *Peers) Send(messages []linkstate.Envelope) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range messages {
		if s := p.sessions[m.Link]; s != nil && !s.enqueue(m.Message) {
			p.counters.overflow.Add(1)
			s.end(errOverflow)
		}
	}
}

// Reset ends the streams of the links; the dialling side dials them anew.
func (p *Peers) Reset(links []linkstate.LinkKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range links {
		if s := p.sessions[key]; s != nil {
			s.end(errReset)
		}
	}
}

// Redial has the link dialled now, if it waits to be dialled again: something
// else has shown that the far end is back.
func (p *Peers) Redial(link linkstate.LinkKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t, now := range p.waiting {
		if t.key == link {
			select {
			case now <- struct{}{}:
			default:
			}
		}
	}
}

// Run dials and accepts until ctx ends, then ends every stream and returns nil
// when the last StreamDown has been delivered. It is called once.
func (p *Peers) Run(ctx context.Context) error {
	dialled := map[target]context.CancelFunc{}
	for {
		p.mu.Lock()
		for t := range p.wanted {
			if dialled[t] == nil {
				child, cancel := context.WithCancel(ctx)
				dialled[t] = cancel
				p.running.Go(func() { p.keepDialled(child, t) })
			}
		}
		for t, cancel := range dialled {
			if !p.wanted[t] {
				cancel()
				delete(dialled, t)
			}
		}
		p.mu.Unlock()
		select {
		case <-p.changed:
		case <-ctx.Done():
			for _, cancel := range dialled {
				cancel()
			}
			p.shutDown()
			return nil
		}
	}
}

func (p *Peers) shutDown() {
	p.mu.Lock()
	p.closed = true
	close(p.stopped)
	for _, s := range p.sessions {
		s.end(errStopped)
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Peers) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Why a stream was ended from this side.
var (
	errRemoved  = errors.New("link is no longer configured")
	errReplaced = errors.New("replaced by a newer stream of the same link")
	errReset    = errors.New("reset by the link-state core")
	errOverflow = errors.New("neighbour takes no messages, outbox is full")
	errStopped  = errors.New("node is stopping")
	errSilent   = errors.New("neighbour did not introduce itself in time")
)
