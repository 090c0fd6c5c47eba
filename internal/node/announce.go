package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/peering"
)

// Bounds of an announcement's lease.
const (
	minLease = time.Second
	maxLease = time.Hour
)

// maxWeight keeps the sum over all instances of a cluster within Envoy's 32 bits.
const maxWeight = math.MaxUint16

// defaultHealthPath is what is asked of pods that name no path; of a gRPC pod
// the path is a service, "/" the whole server.
func defaultHealthPath(p dmsc.Protocol) string {
	if p == dmsc.GRPC {
		return "/"
	}
	return "/healthz"
}

// announcements serves type 1 signaling: it turns requests into events for the
// node's loop and statuses into responses.
type announcements struct {
	dmscv1.UnimplementedAnnouncementServiceServer
	node *Node
}

// Announce implements dmscv1.AnnouncementServiceServer.
func (a *announcements) Announce(stream dmscv1.AnnouncementService_AnnounceServer) error {
	if a.node.cfg.Role == dmsc.RoleSR {
		return status.Errorf(codes.InvalidArgument, "announcement: %s is an SR; a pod announces at an SG", a.node.cfg.Node)
	}
	ctx := stream.Context()
	var from string
	if p, ok := peer.FromContext(ctx); ok {
		if host, _, err := net.SplitHostPort(p.Addr.String()); err == nil {
			from = host
		}
	}
	id := a.node.sessionID()
	// The newest statuses only: a pod that does not read costs one response.
	statuses := make(chan []prefixStatus, 1)
	// One request at a time is in the loop's hands, so that a pod that never
	// stops writing costs the loop no more than one that waits.
	applied := make(chan struct{}, 1)
	requests := make(chan *dmscv1.AnnounceRequest)
	failed := make(chan error, 1)
	go func() {
		for {
			req, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case requests <- req:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer a.node.post(context.WithoutCancel(ctx), sessionClosed{id})

	var pod string
	var lease time.Duration
	var leaving, over bool // withdrawn, and not told so yet; nothing more will come
	next := (<-chan *dmscv1.AnnounceRequest)(requests)
	for {
		select {
		case <-applied:
			next = requests
		case req := <-next:
			next = nil
			s, err := parseAnnouncement(id, req, from, a.node.cfg.Lease)
			switch {
			case err != nil:
				return status.Errorf(codes.InvalidArgument, "announcement: %v", err)
			case pod != "" && s.pod != pod:
				return status.Errorf(codes.InvalidArgument, "announcement: pod %q was %q before; one stream speaks for one pod", s.pod, pod)
			}
			pod, lease, leaving = s.pod, s.lease, req.GetWithdraw()
			if req.GetWithdraw() {
				err = a.node.post(ctx, podWithdrew{id: id, statuses: statuses, applied: applied})
			} else {
				err = a.node.post(ctx, podAnnounced{session: s, statuses: statuses, applied: applied})
			}
			if err != nil {
				return status.FromContextError(err).Err()
			}
		case st := <-statuses:
			resp := &dmscv1.AnnounceResponse{Gateway: string(a.node.cfg.Node), Lease: durationpb.New(lease)}
			for _, s := range st {
				resp.Statuses = append(resp.Statuses, &dmscv1.PrefixStatus{
					Prefix: s.prefix, State: wireState[s.state], Code: s.code, Reason: s.reason, Final: s.final,
				})
			}
			if err := stream.Send(resp); err != nil {
				return err
			}
			leaving = leaving && slices.ContainsFunc(st, func(s prefixStatus) bool { return s.state != withdrawn })
			if over && !leaving {
				return nil
			}
		case err := <-failed:
			switch {
			case errors.Is(err, io.EOF) && leaving:
				over = true // the pod still wants to hear that it is done
			case errors.Is(err, io.EOF):
				return nil
			default:
				return err
			}
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-a.node.stopping:
			return status.Errorf(codes.Unavailable, "gateway %s is stopping", a.node.cfg.Node)
		}
	}
}

var wireState = map[state]dmscv1.PrefixState{
	pending:   dmscv1.PrefixState_PREFIX_STATE_PENDING,
	announced: dmscv1.PrefixState_PREFIX_STATE_ANNOUNCED,
	denied:    dmscv1.PrefixState_PREFIX_STATE_DENIED,
	withdrawn: dmscv1.PrefixState_PREFIX_STATE_WITHDRAWN,
}

// parseAnnouncement checks a request. A malformed prefix refuses that prefix,
// not the request.
func parseAnnouncement(id uint64, req *dmscv1.AnnounceRequest, from string, lease time.Duration) (*session, error) {
	if _, err := dmsc.ParseNodeID(req.GetPod()); err != nil {
		return nil, fmt.Errorf("pod: %w", err)
	}
	if n := len(req.GetServices()); n > maxPrefixesPerPod {
		return nil, fmt.Errorf("%d services, at most %d are allowed", n, maxPrefixesPerPod)
	}
	if n := len(req.GetToken()); n > 16<<10 {
		return nil, fmt.Errorf("token has %d bytes, at most 16384 are allowed", n)
	}
	s := &session{id: id, pod: req.GetPod(), token: req.GetToken(), lease: lease}
	if req.GetLease() != nil {
		s.lease = req.GetLease().AsDuration()
		if s.lease < minLease || s.lease > maxLease {
			return nil, fmt.Errorf("lease %v is not between %v and %v", s.lease, minLease, maxLease)
		}
	}
	for _, w := range req.GetServices() {
		v, err := parseService(w, from)
		if err != nil {
			s.refused = append(s.refused, prefixStatus{prefix: w.GetPrefix(), state: denied, code: "malformed", reason: err.Error(), final: true})
			continue
		}
		s.services = append(s.services, v)
	}
	return s, nil
}

func parseService(w *dmscv1.ServiceAnnouncement, from string) (service, error) {
	p, err := dmsc.ParsePrefix(w.GetPrefix())
	if err != nil {
		return service{}, err
	}
	host := w.GetAddress()
	if host == "" {
		host = from
	}
	switch ip := net.ParseIP(host); {
	case ip == nil:
		return service{}, fmt.Errorf("address %q of %s is no IP address", host, p)
	case ip.IsUnspecified(), ip.IsMulticast(), ip.Equal(net.IPv4bcast):
		return service{}, fmt.Errorf("address %s of %s is no address of a host", host, p)
	case w.GetPort() == 0 || w.GetPort() > 65535:
		return service{}, fmt.Errorf("port %d of %s is not between 1 and 65535", w.GetPort(), p)
	case dmsc.Metric(w.GetMetric()) > dmsc.MaxLinkMetric:
		return service{}, fmt.Errorf("metric %d of %s is above %d", w.GetMetric(), p, dmsc.MaxLinkMetric)
	case w.GetWeight() > maxWeight:
		return service{}, fmt.Errorf("weight %d of %s is above %d", w.GetWeight(), p, maxWeight)
	}
	attributes, err := checkAttributes(w.GetAttributes())
	if err != nil {
		return service{}, fmt.Errorf("attributes of %s: %w", p, err)
	}
	v := service{
		Prefix: linkstate.Prefix{
			Prefix: p, Metric: dmsc.Metric(w.GetMetric()), Preference: w.GetPreference(), Weight: w.GetWeight(),
			ReplaySafe: w.GetReplaySafe(), Attributes: attributes,
		},
		Address: net.JoinHostPort(host, strconv.FormatUint(uint64(w.GetPort()), 10)),
	}
	switch w.GetProtocol() {
	case dmscv1.Protocol_PROTOCOL_UNSPECIFIED, dmscv1.Protocol_PROTOCOL_HTTP1:
		v.Protocol = dmsc.HTTP1
	case dmscv1.Protocol_PROTOCOL_HTTP2:
		v.Protocol = dmsc.HTTP2
	case dmscv1.Protocol_PROTOCOL_GRPC:
		v.Protocol = dmsc.GRPC
	case dmscv1.Protocol_PROTOCOL_TCP:
		v.Protocol = dmsc.TCP
	default:
		return service{}, fmt.Errorf("protocol %v of %s is unknown", w.GetProtocol(), p)
	}
	if v.HealthPath, err = checkPath(w.GetHealthPath(), defaultHealthPath(v.Protocol)); err != nil {
		return service{}, fmt.Errorf("health path of %s: %w", p, err)
	}
	if v.DetectPath, err = checkPath(w.GetDetectPath(), v.HealthPath); err != nil {
		return service{}, fmt.Errorf("detect path of %s: %w", p, err)
	}
	if v.Protocol == dmsc.TCP {
		v.HealthPath, v.DetectPath = "", ""
	}
	return v, nil
}

// checkAttributes puts the attributes in the order that records have. One that
// is out of bounds would have every neighbour refuse the record, and with it the
// prefixes of other pods in its bucket.
func checkAttributes(in []string) ([]string, error) {
	if len(in) > peering.MaxAttributes {
		return nil, fmt.Errorf("%d are given, at most %d are allowed", len(in), peering.MaxAttributes)
	}
	for _, a := range in {
		if a == "" || len(a) > peering.MaxAttribute {
			return nil, fmt.Errorf("one has %d bytes, 1 to %d are allowed", len(a), peering.MaxAttribute)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(in))), nil
}

// checkPath returns the path, the fallback for "", and "" for "-". A control
// character would have the whole configuration refused.
func checkPath(path, fallback string) (string, error) {
	switch {
	case path == "":
		return fallback, nil
	case path == "-":
		return "", nil
	case !strings.HasPrefix(path, "/") || len(path) > 256 || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return "", fmt.Errorf("%q is no path", path)
	}
	return path, nil
}
