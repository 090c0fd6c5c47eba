package xds

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// Config is what a Server needs; the zero value of every field is usable.
type Config struct {
	// Log receives one line per connection, refusal and expired wait.
	// Nil discards.
	Log *slog.Logger
	// OnEvent is called from the streams' goroutines. While it blocks, its
	// stream waits and no other; it must not wait for a client.
	OnEvent func(Event)
	// GateTimeout bounds each wait of a make-before-break update for the
	// client's answer; then the stream goes on. Default 2 s.
	GateTimeout time.Duration
	// RetryListener is how long after its refusal a listener is sent again, for
	// the second time after double that, and at last every twelvefold of it: its
	// port may have been taken. Default 5 s; negative for never.
	RetryListener time.Duration
	// KeepInherited is how long a client keeps, from its first Set on, the
	// clusters and endpoints that it brought along from an earlier stream (delta
	// only) and that the Set has not. Default 0.
	KeepInherited time.Duration
	// Record sees every message of every stream, in order per stream. It must
	// neither block nor keep or change the messages. See RecordTo.
	Record func(Record)
	// MaxNames bounds the names one client may subscribe to, or come back with,
	// per type; a stream that asks for more ends. Default 100 000.
	MaxNames int
	// MaxStreams bounds the open streams of nodes that something was published
	// to: a further one is refused as ResourceExhausted. Default 10 000.
	MaxStreams int
	// MaxStreamsPerNode bounds those of one node. For a further one the stream
	// that has accepted the fewest types ends, the oldest of such, but not the
	// one that Status is about. An Envoy has one, or one per type, and twice that
	// while it restarts. Default 64.
	MaxStreamsPerNode int
	// MaxNamesSize bounds what the streams of one node say by name, together, and
	// what those of MaxStrangers say: in bytes, each name its length and 256. For
	// more the stream ends that has accepted the fewest types, of such the one
	// that says the most. 100 000 names of 60 bytes are 32 MB. Default 128 MiB.
	MaxNamesSize int
	// MaxStrangers bounds the streams that have not named themselves yet, or a
	// node that nothing was published to. For a further one the oldest ends.
	// Default 32.
	MaxStrangers int
	// SendTimeout bounds how long a client may leave a response unread, from the
	// second of its stream on (gRPC takes the first one whole), or say
	// nothing at first; then its stream ends. Default 30 s.
	SendTimeout time.Duration
	// History is how many different sets of a node are kept for Rollback, as
	// long as they take less than 64 MiB. They share what they have in common.
	// Default 20.
	History int
}

// Server publishes Sets to Envoys. Its methods are safe for concurrent use.
// It has no goroutines of its own: each stream runs on gRPC's, and ends with
// the gRPC server (Stop, not GracefulStop, which would wait for Envoys to
// leave).
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	cfg     Config
	streams atomic.Uint64 // so far

	recent   atomic.Pointer[recent] // the next node may need the same
	stepping sync.Mutex             // guards last; taken after node.publishing
	last     *step                  // the next node may take the same

	mu        sync.Mutex // guards what follows; taken before node.mu, never while it is held
	nodes     map[string]*node
	strangers []*stream // oldest first; see places.go
	placed    int       // the other streams
}

// New returns a server that knows no node yet.
func New(cfg Config) *Server {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.GateTimeout = cmp.Or(cfg.GateTimeout, 2*time.Second)
	cfg.RetryListener = cmp.Or(cfg.RetryListener, 5*time.Second)
	cfg.MaxNames = cmp.Or(cfg.MaxNames, 100_000)
	cfg.MaxStreams = cmp.Or(cfg.MaxStreams, 10_000)
	cfg.MaxStreamsPerNode = cmp.Or(cfg.MaxStreamsPerNode, 64)
	cfg.MaxNamesSize = cmp.Or(cfg.MaxNamesSize, 128<<20)
	cfg.MaxStrangers = cmp.Or(cfg.MaxStrangers, 32)
	cfg.SendTimeout = cmp.Or(cfg.SendTimeout, 30*time.Second)
	cfg.History = cmp.Or(cfg.History, 20)
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(Event) {}
	}
	return &Server{cfg: cfg, nodes: map[string]*node{}}
}

// Publish makes set the one that node's Envoy shall run, and returns its
// version. It never waits for a client. A set that Envoy would refuse as a
// whole or that is not closed under reference is refused with all its faults,
// and the last good one stays. Publishing equal content does nothing. A node
// that is pinned (see Rollback) goes on with what it is pinned to.
func (s *Server) Publish(name string, set Set) (version string, err error) {
	n := s.published(name)
	n.publishing.Lock()
	defer n.publishing.Unlock()
	c, err := s.compile(set, n.likely()) // not under n.mu: streams must not wait for it
	if err != nil {
		return "", fmt.Errorf("publish to %s: %w", name, err)
	}
	n.publish(s, c, set, time.Now())
	return c.version, nil
}

// compile is compile, with what another node was given in mind.
func (s *Server) compile(set Set, last *compiled) (*compiled, error) {
	recent := s.recent.Load()
	if recent.is(set) {
		return recent.compiled, nil
	}
	c, err := compile(set, last, recent.set())
	if err == nil {
		s.recent.Store(remember(set, c))
	}
	return c, err
}

// serve serves one stream of the given types.
func (s *Server) serve(ctx context.Context, d dialect, types [numTypes]bool) error {
	st := newStream(s, d, types)
	s.admit(st)
	defer s.dismiss(st)
	err := st.run(ctx)
	if err != nil && st.nonces > 0 { // it may not have read what it was sent
		hangUp(ctx)
	}
	return err
}

// node needs s.mu.
func (s *Server) node(name string) *node {
	n := s.nodes[name]
	if n == nil {
		n = &node{name: name}
		s.nodes[name] = n
	}
	return n
}
