package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/internal/config"
)

// hasty is the stream of a pod that has announced and gone before anybody
// looked.
type hasty struct {
	grpc.ServerStream
	ctx context.Context
}

func (h hasty) Context() context.Context            { return h.ctx }
func (h hasty) Send(*dmscv1.AnnounceResponse) error { return h.ctx.Err() }
func (h hasty) Recv() (*dmscv1.AnnounceRequest, error) {
	return &dmscv1.AnnounceRequest{Pod: "pod-1"}, nil
}

// Otherwise its lease would never begin to run.
func TestTheStreamOfAHastyPodEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 200 { // by chance, at one place or another
		n := &Node{cfg: &config.Node{Node: dmsc.NodeID("sg-1"), Lease: time.Second}, events: make(chan event, 8), dead: make(chan struct{})}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = (&announcements{node: n}).Announce(hasty{ctx: ctx})
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("the handler still waits")
		}
		var last event
		for len(n.events) > 0 {
			last = <-n.events
		}
		if _, ok := last.(sessionClosed); !ok {
			t.Fatalf("the last event is %T, want sessionClosed", last)
		}
	}
}

func TestAPodIsSentAwayFromARouter(t *testing.T) {
	n := &Node{cfg: &config.Node{Node: "sr-1", Role: dmsc.RoleSR}}
	err := (&announcements{node: n}).Announce(hasty{ctx: t.Context()})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "sr-1 is an SR; a pod announces at an SG") {
		t.Errorf("%v", err)
	}
}
