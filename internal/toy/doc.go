// Package toy is the service that stands for a pod in the demo and the tests:
// it tells what has reached it, so that a test can see what a mesh did to a
// request. One port speaks HTTP/1.1, HTTP/2 without TLS, and gRPC.
//
//	toy.Serve(ctx, toy.Config{Listen: "127.0.0.1:0", Pod: "pod-1", Prefix: "a/1"})
//
//	/healthz          200
//	/bytes?n=1000000  that many bytes
//	/sleep?ms=80      answers like any other path, later
//	anything else     the request as JSON (Echo)
//
// Answers carry x-echo-via (all values of dmsc-via, joined by ","),
// x-echo-prefix (dmsc-service-prefix as received) and x-echo-pod, and end with
// the trailer x-echo-body-bytes where trailers are possible. The gRPC service
// is dmsc.toy.Echo (see grpc.go), beside grpc.health.v1.Health.
package toy
