package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
)

// Config says who announces what, where.
type Config struct {
	// Gateway is the SG's API address, host:port.
	Gateway string
	// Pod is the holder of the grants: 1–63 characters of a-z 0-9 and -.
	Pod string
	// Services are announced together; at least one.
	Services []Service
	// Lease keeps the services announced while the stream is away; 1 s to 1 h,
	// 0 means 30 s. It is renewed at a third.
	Lease time.Duration
	// OnStatus, if set, is called for each prefix whenever its status changes,
	// one call at a time.
	OnStatus func(Status)
	// OnDisconnect, if set, is called with the reason when the gateway is away;
	// Announce goes on trying.
	OnDisconnect func(error)
	// DialOptions replace the default of a plain-text connection.
	DialOptions []grpc.DialOption
}

// Service is one service prefix and where it is served.
type Service struct {
	Prefix     string
	Address    string // IP address; "" means the one the gateway sees
	Port       int
	Protocol   dmsc.Protocol
	HealthPath string   // "" means /healthz (gRPC: /, the whole server), "-" none
	DetectPath string   // "" means HealthPath
	Metric     uint32   // added to the distance to the gateway; below 2^24
	Weight     uint32   // share among equally good instances, at most 65535; 0 means 1
	Preference uint32   // higher wins before distance is looked at
	ReplaySafe bool     // a request may be sent twice
	Attributes []string // "key=value", at most 16 of 1 to 255 bytes
}

// State is where a prefix stands at the gateway.
type State string

// The states of a prefix.
const (
	Pending   State = "pending"   // not advertised, for now: Code says what it waits for
	Announced State = "announced" // authenticated and advertised
	Denied    State = "denied"    // refused, advertised nowhere
	Withdrawn State = "withdrawn"
)

// Status is what the gateway says about one prefix.
type Status struct {
	Gateway string
	Prefix  string
	State   State
	Code    string // stable reason, "" when announced
	Reason  string // in words
	Final   bool   // asking again is of no use before the grants change
}

// How long Announce waits before it tries a gateway again.
const (
	firstWait = 100 * time.Millisecond
	lastWait  = 5 * time.Second
)

// Announce announces until ctx ends (then it withdraws and returns nil) or the
// gateway calls the announcement invalid (then it returns why).
func Announce(ctx context.Context, cfg Config) error {
	req, err := request(cfg)
	if err != nil {
		return err
	}
	opts := cfg.DialOptions
	if opts == nil {
		opts = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	conn, err := grpc.NewClient(cfg.Gateway, append([]grpc.DialOption{
		grpc.WithDisableServiceConfig(), // not every resolver answers for it
		// gRPC's own backoff grows to two minutes: a lease would run out in it.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstWait, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		// It finds a gateway that is gone without a word.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
	}, opts...)...)
	if err != nil {
		return fmt.Errorf("announce at %s: %w", cfg.Gateway, err)
	}
	defer conn.Close()
	told := map[string]Status{}
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		heard, err := session(ctx, conn, cfg, req, told)
		switch {
		case ctx.Err() != nil:
			return nil
		case status.Code(err) == codes.InvalidArgument, status.Code(err) == codes.PermissionDenied:
			return fmt.Errorf("announce at %s: %s", cfg.Gateway, status.Convert(err).Message())
		case heard:
			wait = firstWait
		}
		if cfg.OnDisconnect != nil {
			cfg.OnDisconnect(fmt.Errorf("gateway %s is away: %s", cfg.Gateway, status.Convert(err).Message()))
		}
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
		case <-ctx.Done():
			return nil
		}
	}
}

// session is one stream. It reports whether the gateway has answered on it.
func session(ctx context.Context, conn *grpc.ClientConn, cfg Config, req *dmscv1.AnnounceRequest, told map[string]Status) (heard bool, err error) {
	// The stream outlives ctx by the withdrawal.
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stream, err := dmscv1.NewAnnouncementServiceClient(conn).Announce(streamCtx)
	if err != nil {
		return false, err
	}
	if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	type result struct {
		resp *dmscv1.AnnounceResponse
		err  error
	}
	results := make(chan result)
	go func() {
		for {
			resp, err := stream.Recv()
			select {
			case results <- result{resp, err}:
			case <-streamCtx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	renew := time.NewTicker(req.GetLease().AsDuration() / 3)
	defer renew.Stop()
	for {
		select {
		case r := <-results:
			if r.err != nil {
				return heard, r.err
			}
			heard = true
			tell(cfg, r.resp, told)
		case <-renew.C:
			if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
				return heard, err
			}
		case <-ctx.Done():
			return heard, withdraw(stream, cfg.Pod, func() error {
				select {
				case r := <-results:
					if r.err == nil {
						tell(cfg, r.resp, told)
					}
					return r.err
				case <-time.After(time.Second):
					return errors.New("the gateway does not answer")
				}
			})
		}
	}
}

// withdraw takes the services back and waits for the gateway to have heard it.
func withdraw(stream dmscv1.AnnouncementService_AnnounceClient, pod string, next func() error) error {
	if err := stream.Send(&dmscv1.AnnounceRequest{Pod: pod, Withdraw: true}); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		if err := next(); err != nil {
			return err
		}
	}
}

func tell(cfg Config, resp *dmscv1.AnnounceResponse, told map[string]Status) {
	if cfg.OnStatus == nil {
		return
	}
	for _, w := range resp.GetStatuses() {
		s := Status{
			Gateway: resp.GetGateway(), Prefix: w.GetPrefix(), State: states[w.GetState()],
			Code: w.GetCode(), Reason: w.GetReason(), Final: w.GetFinal(),
		}
		if told[s.Prefix] != s {
			told[s.Prefix] = s
			cfg.OnStatus(s)
		}
	}
}

var states = map[dmscv1.PrefixState]State{
	dmscv1.PrefixState_PREFIX_STATE_PENDING:   Pending,
	dmscv1.PrefixState_PREFIX_STATE_ANNOUNCED: Announced,
	dmscv1.PrefixState_PREFIX_STATE_DENIED:    Denied,
	dmscv1.PrefixState_PREFIX_STATE_WITHDRAWN: Withdrawn,
}

var protocols = map[dmsc.Protocol]dmscv1.Protocol{
	dmsc.HTTP1: dmscv1.Protocol_PROTOCOL_HTTP1,
	dmsc.HTTP2: dmscv1.Protocol_PROTOCOL_HTTP2,
	dmsc.GRPC:  dmscv1.Protocol_PROTOCOL_GRPC,
	dmsc.TCP:   dmscv1.Protocol_PROTOCOL_TCP,
}

func request(cfg Config) (*dmscv1.AnnounceRequest, error) {
	req := &dmscv1.AnnounceRequest{Pod: cfg.Pod, Lease: durationpb.New(cmp.Or(cfg.Lease, 30*time.Second))}
	if len(cfg.Services) == 0 {
		return nil, errors.New("announce: no service is named")
	}
	if lease := req.GetLease().AsDuration(); lease < time.Second || lease > time.Hour {
		return nil, fmt.Errorf("announce: lease %v is not between 1s and 1h", lease)
	}
	for _, s := range cfg.Services {
		if _, err := dmsc.ParsePrefix(s.Prefix); err != nil {
			return nil, fmt.Errorf("announce: %w", err)
		}
		if s.Port < 1 || s.Port > 65535 {
			return nil, fmt.Errorf("announce %s: port %d is not between 1 and 65535", s.Prefix, s.Port)
		}
		req.Services = append(req.Services, &dmscv1.ServiceAnnouncement{
			Prefix: s.Prefix, Address: s.Address, Port: uint32(s.Port), Protocol: protocols[s.Protocol],
			HealthPath: s.HealthPath, DetectPath: s.DetectPath, Metric: s.Metric, Weight: s.Weight,
			Preference: s.Preference, ReplaySafe: s.ReplaySafe, Attributes: s.Attributes,
		})
	}
	return req, nil
}
