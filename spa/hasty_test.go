package spa

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"

	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
)

// hasty is the stream of a gateway that has asked and gone before anybody
// looked.
type hasty struct {
	grpc.ServerStream
	ctx context.Context
}

func (h hasty) Context() context.Context { return h.ctx }
func (h hasty) Recv() (*dmscv1.AuthenticateRequest, error) {
	return &dmscv1.AuthenticateRequest{RequestId: 1}, nil
}
func (h hasty) Send(*dmscv1.AuthenticateResponse) error { return h.ctx.Err() }

func TestTheStreamOfAHastyGatewayEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 200 { // by chance, at one place or another
		s := &stream{AuthenticationService_AuthenticateServer: hasty{ctx: ctx}}
		requests, ended := s.receive()
		timeout := time.After(10 * time.Second)
		for over := false; !over; {
			select {
			case <-requests:
			case <-ended:
				over = true
			case <-timeout:
				t.Fatal("the stream does not end")
			}
		}
	}
}
