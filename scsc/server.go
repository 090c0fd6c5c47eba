package scsc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/internal/watch"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

// ServerConfig configures a Server.
type ServerConfig struct {
	Center Config
	Domain string
	// Policies is a file or folder of QoSPolicy documents, "" for none. It is
	// watched; a bad change keeps the last good rules.
	Policies string
	// Rules are in force when Policies is "".
	Rules []policy.QoSPolicy
	// Step is the time between two Ticks of the Center; 100 ms.
	Step   time.Duration
	Logger *slog.Logger
	// OnEvent is called on the loop for every event of the Center; it must not
	// block. May be nil.
	OnEvent func(Event)
}

// Server is the gRPC QoSService around a Center. One loop (Run) owns the
// Center; sessions and the file watcher only send it events, and readers use
// Tables.
type Server struct {
	dmscv1.UnimplementedQoSServiceServer

	cfg      ServerConfig
	log      *slog.Logger
	tables   *Tables
	initial  policy.Set
	watcher  *watch.Watcher // of cfg.Policies; nil without
	events   chan event
	view     atomic.Pointer[linkstate.View]
	viewed   chan struct{} // capacity 1: view has changed
	finished chan struct{} // closed when Run has returned

	// Owned by the loop.
	center   *Center
	sessions map[dmsc.NodeID]*session
	news     bool // something to publish
	soon     *time.Timer
	hurried  bool // soon runs
}

// hurry is how soon after an answer a rollout goes on: several come in at once.
const hurry = 5 * time.Millisecond

// event is one thing that happens to the loop.
type event interface{ isEvent() }

type (
	joined    struct{ session *session }
	gone      struct{ session *session }
	telemetry struct {
		node   dmsc.NodeID
		report Telemetry
	}
	reported struct {
		node   dmsc.NodeID
		status Status
	}
	loaded struct {
		set policy.Set
		err error
	}
	asked struct {
		ask func(c *Center, now time.Time)
	}
)

func (joined) isEvent()    {}
func (gone) isEvent()      {}
func (telemetry) isEvent() {}
func (reported) isEvent()  {}
func (loaded) isEvent()    {}
func (asked) isEvent()     {}

// NewServer reads the policies; a fault in them is returned, and nothing has
// started.
func NewServer(cfg ServerConfig) (*Server, error) {
	cfg.Step = cmp.Or(cfg.Step, 100*time.Millisecond)
	s := &Server{
		cfg: cfg, log: cfg.Logger, tables: newTables(),
		events: make(chan event, 256), viewed: make(chan struct{}, 1), finished: make(chan struct{}),
		center: NewCenter(cfg.Center), sessions: make(map[dmsc.NodeID]*session),
	}
	s.initial.Rules = cfg.Rules
	if cfg.Policies != "" {
		s.watcher = watch.New(cfg.Policies)
		var err error
		if s.initial, err = policy.Load(cfg.Policies); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Register makes the Server answer for the QoSService.
func (s *Server) Register(r grpc.ServiceRegistrar) { dmscv1.RegisterQoSServiceServer(r, s) }

// Tables is the read side; rows are published after each Step with news.
func (s *Server) Tables() *Tables { return s.tables }

// UpdateLSDB hands over the newest view of the observer. It never blocks.
func (s *Server) UpdateLSDB(v *linkstate.View) {
	s.view.Store(v)
	select {
	case s.viewed <- struct{}{}:
	default:
	}
}

// Run is the loop. It returns nil when ctx ends.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer close(s.finished)
	defer cancel()
	s.use(s.initial)
	if s.watcher != nil {
		watching.Go(func() {
			s.watcher.Run(ctx, func() {
				set, err := policy.Load(s.cfg.Policies)
				s.send(ctx, loaded{set, err})
			}, func(err error) { s.log.Warn("changes of the policies may be noticed late", "err", err) })
		})
	}
	s.soon = time.NewTimer(time.Hour)
	s.soon.Stop()
	defer s.soon.Stop()
	step := time.NewTicker(s.cfg.Step)
	defer step.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.viewed:
			s.center.LSDB(s.view.Load())
			s.news = true
		case e := <-s.events:
			s.apply(time.Now(), e)
		case <-step.C:
			s.tick(time.Now())
		case <-s.soon.C:
			s.hurried = false
			s.tick(time.Now())
		}
	}
}

func (s *Server) apply(now time.Time, e event) {
	s.news = true
	switch e := e.(type) {
	case joined:
		if old := s.sessions[e.session.node]; old != nil {
			old.end()
		}
		s.sessions[e.session.node] = e.session
		s.center.NodeJoined(e.session.node)
		s.log.Info("session begins", "node", e.session.node)
	case gone:
		if s.sessions[e.session.node] == e.session { // else a newer one has replaced it
			delete(s.sessions, e.session.node)
			s.center.NodeGone(e.session.node)
			s.log.Info("session ends", "node", e.session.node)
		}
	case telemetry:
		s.center.Telemetry(now, e.node, e.report)
	case reported:
		s.center.Status(now, e.node, e.status)
		if s.center.Waiting() && !s.hurried {
			s.hurried = true
			s.soon.Reset(hurry)
		}
	case loaded:
		if e.err != nil {
			s.log.Error("policies are refused, the last good ones stay", "err", e.err)
			return
		}
		s.use(e.set)
	case asked:
		e.ask(s.center, now)
	}
}

func (s *Server) use(set policy.Set) {
	s.center.SetPolicies(set.Rules)
	s.log.Info("policies are in force", "rules", len(set.Rules))
	for _, w := range set.Warnings {
		s.log.Warn("policy warning", "err", w)
	}
}

func (s *Server) tick(now time.Time) {
	d := s.center.Tick(now)
	for _, e := range d.Events {
		s.log.Info("scheduling event", "event", e.Kind, "node", e.Node, "policy", e.Policy, "text", e.Text)
		if s.cfg.OnEvent != nil {
			s.cfg.OnEvent(e)
		}
	}
	for _, p := range d.Plans {
		if ses := s.sessions[p.Node]; ses != nil {
			ses.put(&dmscv1.SessionResponse{Kind: &dmscv1.SessionResponse_Plan{Plan: planToWire(p.Plan)}}, nil)
		}
	}
	for _, set := range d.Sets {
		if ses := s.sessions[set.Node]; ses != nil {
			ses.put(nil, &dmscv1.SessionResponse{Kind: &dmscv1.SessionResponse_Policies{Policies: setToWire(set.Set)}})
		}
	}
	if !s.news {
		return
	}
	s.news = false
	if err := s.tables.publish(s.center); err != nil {
		s.log.Error("state is not published", "err", err)
	}
}

// send hands an event to the loop; false when the server or ctx has ended.
func (s *Server) send(ctx context.Context, e event) bool {
	select {
	case s.events <- e:
		return true
	case <-ctx.Done():
	case <-s.finished:
	}
	return false
}

// ask runs a question on the loop and waits for it.
func (s *Server) ask(ctx context.Context, question func(c *Center, now time.Time)) error {
	done := make(chan struct{})
	if s.send(ctx, asked{func(c *Center, now time.Time) {
		defer close(done)
		question(c, now)
	}}) {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
		case <-s.finished:
		}
	}
	return cmp.Or(ctx.Err(), errors.New("the scheduling centre is stopping"))
}

// Explain says in words what is decided for a name at an ingress and why.
func (s *Server) Explain(ctx context.Context, ingress dmsc.NodeID, name dmsc.ServicePrefix) ([]string, error) {
	var out []string
	if err := s.ask(ctx, func(c *Center, now time.Time) { out = c.Explain(now, ingress, name) }); err != nil {
		return nil, err
	}
	return out, nil
}

// PathQuery implements dmscv1.QoSServiceServer.
func (s *Server) PathQuery(ctx context.Context, req *dmscv1.PathQueryRequest) (*dmscv1.PathQueryResponse, error) {
	ingress, err1 := dmsc.ParseNodeID(req.GetIngress())
	name, err2 := dmsc.ParsePrefix(req.GetPrefix())
	if err := errors.Join(err1, err2); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	var answer Answer
	var unknown error
	if err := s.ask(ctx, func(c *Center, now time.Time) { answer, unknown = c.Query(now, ingress, name) }); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	if unknown != nil {
		return nil, status.Error(codes.NotFound, unknown.Error())
	}
	out := &dmscv1.PathQueryResponse{Instance: answer.Path.Instance.String(), Delay: durationpb.New(answer.Delay), Explanation: answer.Explanation}
	for _, n := range answer.Path.Nodes {
		out.Nodes = append(out.Nodes, string(n))
	}
	return out, nil
}

// session is the stream of one node. Its mailbox holds the newest plan and the
// newest set: a slow node skips what is superseded, and delays nobody.
type session struct {
	node  dmsc.NodeID
	end   context.CancelFunc
	ready chan struct{} // capacity 1

	mu        sync.Mutex
	plan, set *dmscv1.SessionResponse
}

func (ses *session) put(plan, set *dmscv1.SessionResponse) {
	ses.mu.Lock()
	ses.plan, ses.set = cmp.Or(plan, ses.plan), cmp.Or(set, ses.set)
	ses.mu.Unlock()
	select {
	case ses.ready <- struct{}{}:
	default:
	}
}

func (ses *session) take() (out []*dmscv1.SessionResponse) {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	for _, m := range []*dmscv1.SessionResponse{ses.plan, ses.set} {
		if m != nil {
			out = append(out, m)
		}
	}
	ses.plan, ses.set = nil, nil
	return out
}

// Session implements dmscv1.QoSServiceServer.
func (s *Server) Session(stream grpc.BidiStreamingServer[dmscv1.SessionRequest, dmscv1.SessionResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return status.Error(codes.InvalidArgument, "the first message of a session is the hello")
	}
	node, err := dmsc.ParseNodeID(hello.GetNode())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if hello.GetDomain() != s.cfg.Domain {
		return status.Errorf(codes.PermissionDenied, "node %s is of domain %q, this is %q", node, hello.GetDomain(), s.cfg.Domain)
	}

	ctx, end := context.WithCancel(stream.Context())
	defer end()
	ses := &session{node: node, end: end, ready: make(chan struct{}, 1)}
	if !s.send(ctx, joined{ses}) {
		return status.Error(codes.Unavailable, "the scheduling centre is stopping")
	}
	// The stream's own context may have ended by now; the loop must still hear.
	defer s.send(context.WithoutCancel(ctx), gone{ses})

	failed := make(chan error, 1)
	go func() { // ends with the stream, which ends when this method returns
		failed <- s.receive(ctx, ses, stream)
	}()
	for {
		select {
		case err := <-failed:
			return err
		case <-s.finished:
			return status.Error(codes.Unavailable, "the scheduling centre is stopping")
		case <-ctx.Done():
			return status.Errorf(codes.Aborted, "a newer session of %s has replaced this one", node)
		case <-ses.ready:
			for _, m := range ses.take() {
				if err := stream.Send(m); err != nil {
					return err
				}
			}
		}
	}
}

func (s *Server) receive(ctx context.Context, ses *session, stream grpc.BidiStreamingServer[dmscv1.SessionRequest, dmscv1.SessionResponse]) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var e event
		switch k := m.GetKind().(type) {
		case *dmscv1.SessionRequest_Telemetry:
			t, err := telemetryFromWire(k.Telemetry)
			if err != nil {
				s.log.Warn("telemetry is partly ignored", "node", ses.node, "err", err)
			}
			e = telemetry{ses.node, t}
		case *dmscv1.SessionRequest_PolicyStatus:
			e = reported{ses.node, statusFromWire(k.PolicyStatus)}
		default:
			s.log.Debug("unknown session message is ignored", "node", ses.node, "kind", fmt.Sprintf("%T", k))
			continue
		}
		if !s.send(ctx, e) {
			return status.Error(codes.Unavailable, "the session has ended")
		}
	}
}
