// Package serve opens listeners and runs servers that end with a context, in
// the one way all dmsc processes do it.
//
//	l, err := serve.Listen("unix:///run/dmsc/xds.sock")
//	g.Go(func() error { return serve.GRPC(ctx, "xds", server, l) })
package serve

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
)

// GRPC serves until ctx ends. It then stops at once, not gracefully: the
// streams here last as long as their clients, which all come back by
// themselves. what names the service in the error.
func GRPC(ctx context.Context, what string, s *grpc.Server, l net.Listener) error {
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	if err := s.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve %s: %w", what, err)
	}
	return nil
}
