package spa

import (
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/internal/watch"
)

// Limits of one gateway's stream. What exceeds them is denied as RateLimited,
// to be asked again later.
const (
	MaxPrefixes = 64   // in one request, hence of one pod
	MaxPods     = 4096 // with live claims
	retryAfter  = 10 * time.Second
)

// ServerOptions are the limits of the gRPC server an SPA is registered with. A
// connection has no maximum age: a gateway's stream lives as long as the gateway.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxConcurrentStreams(100),
		grpc.MaxRecvMsgSize(1 << 20),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(5 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
}

// ServerConfig configures a Server.
type ServerConfig struct {
	Log *slog.Logger
}

// Server answers claims of gateways and tells them when an answer changes.
type Server struct {
	dmscv1.UnimplementedAuthenticationServiceServer
	log *slog.Logger

	current atomic.Pointer[edition]

	mu        sync.Mutex // guards what follows
	streams   map[*stream]bool
	watcher   *watch.Watcher // of the path that was loaded last
	lastError error
}

// edition is one set of grants in force.
type edition struct {
	*Authority
	generation uint64
	grants     int
}

// NewServer returns a server that refuses everything until Load or Reload.
func NewServer(cfg ServerConfig) *Server {
	s := &Server{log: cfg.Log, streams: map[*stream]bool{}}
	s.current.Store(&edition{Authority: NewAuthority(nil)})
	return s
}

// Register adds the AuthenticationService to a gRPC server.
func (s *Server) Register(g *grpc.Server) { dmscv1.RegisterAuthenticationServiceServer(g, s) }

// Reload puts grants in force and has the verdicts that change pushed.
func (s *Server) Reload(grants []Grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reload(grants)
}

func (s *Server) reload(grants []Grant) {
	e := &edition{Authority: NewAuthority(grants), generation: s.current.Load().generation + 1, grants: len(grants)}
	s.current.Store(e)
	for t := range s.streams {
		select {
		case t.reloaded <- struct{}{}:
		default: // it is about to look already
		}
	}
	s.log.Info("grants in force", "generation", e.generation, "grants", e.grants)
}

// Status is what an operator asks a Server.
type Status struct {
	Generation uint64 // of the grants in force; grows with each reload
	Grants     int
	Gateways   []dmsc.NodeID // with an open stream, sorted
	// LastError is why the newest grants file is not in force, nil when it is.
	LastError error
}

// Status returns the state of this moment.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.current.Load()
	st := Status{Generation: e.generation, Grants: e.grants, LastError: s.lastError}
	for t := range s.streams {
		if g := t.gateway.Load(); g != nil {
			st.Gateways = append(st.Gateways, *g)
		}
	}
	slices.Sort(st.Gateways)
	return st
}

// stream is one gateway's session. Its handler goroutine owns everything but
// the two fields that others touch.
type stream struct {
	dmscv1.AuthenticationService_AuthenticateServer
	server   *Server
	reloaded chan struct{} // of capacity 1
	gateway  atomic.Pointer[dmsc.NodeID]

	live map[string]*judged // by pod
}

// judged is a live claim with the verdicts its gateway was told last.
type judged struct {
	Claim
	verdicts []Verdict
}

// Authenticate implements dmscv1.AuthenticationServiceServer. A request without
// prefixes takes the pod's claims back.
func (s *Server) Authenticate(grpcStream dmscv1.AuthenticationService_AuthenticateServer) error {
	t := &stream{
		AuthenticationService_AuthenticateServer: grpcStream,
		server:                                   s, reloaded: make(chan struct{}, 1), live: map[string]*judged{},
	}
	s.mu.Lock()
	s.streams[t] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.streams, t)
		s.mu.Unlock()
	}()
	// The header tells the client that an SPA is there before it asks anything.
	if err := t.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	requests, ended := t.receive()
	for {
		select {
		case req := <-requests:
			if err := t.answer(req); err != nil {
				return err
			}
		case <-t.reloaded:
			if err := t.notify(); err != nil {
				return err
			}
		case err := <-ended:
			return err
		}
	}
}

// receive reads requests until the stream ends; gRPC ends it when the handler
// returns.
func (t *stream) receive() (<-chan *dmscv1.AuthenticateRequest, <-chan error) {
	requests, ended := make(chan *dmscv1.AuthenticateRequest), make(chan error, 1)
	go func() {
		for {
			req, err := t.Recv()
			if err == io.EOF {
				err = nil
			}
			if req == nil || err != nil {
				ended <- err
				return
			}
			select {
			case requests <- req:
			case <-t.Context().Done():
				ended <- t.Context().Err() // nobody else will say it
				return
			}
		}
	}()
	return requests, ended
}

func (t *stream) answer(req *dmscv1.AuthenticateRequest) error {
	gateway, err := dmsc.ParseNodeID(req.GetGateway())
	switch first := t.gateway.Load(); {
	case err != nil:
		return status.Errorf(codes.InvalidArgument, "gateway: %v", err)
	case first == nil:
		t.gateway.Store(&gateway)
	case *first != gateway:
		return status.Errorf(codes.InvalidArgument, "this stream is gateway %s's, the request says %s", *first, gateway)
	}
	if req.GetRequestId() == 0 {
		return status.Error(codes.InvalidArgument, "request_id 0 is reserved for notifications")
	}
	e := t.server.current.Load()
	claim := Claim{Gateway: gateway, Pod: req.GetPod(), Prefixes: req.GetPrefixes()}
	verdicts := t.judge(e, &claim)
	if len(claim.Prefixes) == 0 { // the pod has nothing left to claim
		delete(t.live, claim.Pod)
	} else {
		t.live[claim.Pod] = &judged{claim, verdicts[:len(claim.Prefixes)]}
	}
	return t.say(e, req.GetRequestId(), claim.Pod, verdicts)
}

// judge decides a claim. It cuts the claim to what the limits let in.
func (t *stream) judge(e *edition, c *Claim) []Verdict {
	n := min(len(c.Prefixes), MaxPrefixes)
	reason := "more than 64 prefixes of one pod"
	if t.live[c.Pod] == nil && len(t.live) >= MaxPods {
		n, reason = 0, "more than 4096 pods at one gateway"
	}
	rest := c.Prefixes[n:]
	c.Prefixes = c.Prefixes[:n]
	verdicts := e.Judge(*c)
	for _, p := range rest {
		verdicts = append(verdicts, Verdict{Prefix: p, Code: RateLimited, Reason: reason, RetryAfter: retryAfter})
	}
	for _, v := range verdicts {
		if !v.Granted {
			t.server.log.Info("claim denied", "node", string(c.Gateway), "pod", c.Pod, "prefix", v.Prefix, "code", string(v.Code), "reason", v.Reason)
		}
	}
	return verdicts
}

// notify judges every live claim anew and tells the gateway what changed.
func (t *stream) notify() error {
	e := t.server.current.Load()
	pods := make([]string, 0, len(t.live))
	for pod := range t.live {
		pods = append(pods, pod)
	}
	slices.SortFunc(pods, strings.Compare)
	for _, pod := range pods {
		j := t.live[pod]
		var changed []Verdict
		for i, v := range e.Judge(j.Claim) {
			if old := j.verdicts[i]; v.Granted != old.Granted || v.Code != old.Code {
				changed = append(changed, v)
			}
			j.verdicts[i] = v
		}
		if len(changed) == 0 {
			continue
		}
		t.server.log.Info("verdicts changed", "node", string(j.Gateway), "pod", pod, "verdicts", len(changed))
		if err := t.say(e, 0, pod, changed); err != nil {
			return err
		}
	}
	return nil
}

func (t *stream) say(e *edition, request uint64, pod string, verdicts []Verdict) error {
	return t.Send(&dmscv1.AuthenticateResponse{
		RequestId: request, Gateway: string(*t.gateway.Load()), Pod: pod, Verdicts: toWire(verdicts),
		GrantsGeneration: e.generation, DecidedAt: timestamppb.Now(),
	})
}
