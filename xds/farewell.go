package xds

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
)

// A stream that the server ends is over for gRPC only when its client has read
// all that was on its way to it. Of a client that does not read gRPC would keep
// that for as long as the connection lasts, and so without a bound: its place is
// free for the next. The connection therefore ends too, a moment later, in which
// a client that does read learns why.
const farewell = time.Second

// hangUp ends the connection of a stream that the server has ended.
func hangUp(ctx context.Context) {
	if p, ok := peer.FromContext(ctx); ok {
		if c, ok := p.AuthInfo.(connection); ok {
			time.AfterFunc(farewell, func() { c.conn.Close() })
		}
	}
}

// connections are credentials that let a stream know its connection.
type connections struct {
	credentials.TransportCredentials
}

// connection is what a stream has of it.
type connection struct {
	credentials.AuthInfo
	conn net.Conn
}

func (c connections) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	return conn, connection{info, conn}, err
}

func plainText() credentials.TransportCredentials {
	return connections{insecure.NewCredentials()}
}
