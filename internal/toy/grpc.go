package toy

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The gRPC methods; both take and return google.protobuf.StringValue and end
// with the trailers x-echo-pod and x-echo-count.
//
//	Unary   answers "<pod> <prefix> <value>"
//	Stream  answers each value so, as it comes
const (
	UnaryMethod  = "/dmsc.toy.Echo/Unary"
	StreamMethod = "/dmsc.toy.Echo/Stream"
)

// echoService is registered by hand: a service of one test message is not
// worth a generated package.
var echoService = grpc.ServiceDesc{
	ServiceName: "dmsc.toy.Echo",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}},
	Streams:     []grpc.StreamDesc{{StreamName: "Stream", Handler: stream, ClientStreams: true, ServerStreams: true}},
}

func newGRPC(c Config) *grpc.Server {
	s := grpc.NewServer()
	s.RegisterService(&echoService, c)
	h := health.NewServer()
	healthv1.RegisterHealthServer(s, h)
	return s
}

func unary(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	c := srv.(Config)
	in := new(wrapperspb.StringValue)
	if err := decode(in); err != nil {
		return nil, err
	}
	header, trailer := c.metadata(ctx, 1)
	if err := errors.Join(grpc.SetHeader(ctx, header), grpc.SetTrailer(ctx, trailer)); err != nil {
		return nil, err
	}
	return c.answer(in), nil
}

func stream(srv any, s grpc.ServerStream) error {
	c := srv.(Config)
	header, _ := c.metadata(s.Context(), 0)
	if err := s.SendHeader(header); err != nil {
		return err
	}
	for count := 0; ; count++ {
		in := new(wrapperspb.StringValue)
		if err := s.RecvMsg(in); errors.Is(err, io.EOF) {
			_, trailer := c.metadata(s.Context(), count)
			s.SetTrailer(trailer)
			return nil
		} else if err != nil {
			return err
		}
		if err := s.SendMsg(c.answer(in)); err != nil {
			return err
		}
	}
}

func (c Config) answer(in *wrapperspb.StringValue) *wrapperspb.StringValue {
	return wrapperspb.String(c.Pod + " " + c.Prefix + " " + in.GetValue())
}

func (c Config) metadata(ctx context.Context, count int) (header, trailer metadata.MD) {
	in, _ := metadata.FromIncomingContext(ctx)
	header = metadata.Pairs(
		"x-echo-via", strings.Join(in.Get("dmsc-via"), ","),
		"x-echo-prefix", strings.Join(in.Get("dmsc-service-prefix"), ","),
	)
	return header, metadata.Pairs("x-echo-pod", c.Pod, "x-echo-count", strconv.Itoa(count))
}
