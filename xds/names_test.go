package xds_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dmsc-mesh/dmsc/xds"
)

// sayNames has a foe subscribe to n names of 100 bytes that nobody knows.
func sayNames(t *testing.T, stream deltaClient, node string, n int) {
	t.Helper()
	pad := strings.Repeat("x", 94)
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%06d", i) + pad
	}
	err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: nodeOf(node), TypeUrl: xds.Endpoints.URL(), ResourceNamesSubscribe: list})
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever is said by name under one node.id, and however many streams say it,
// is bounded in all; so is what strangers say. The Envoy that was there keeps its
// stream, and a new one comes in.
func TestNamesOfAllStreamsOfANodeAreBoundedTogether(t *testing.T) {
	const size = 1000 * (100 + 256)
	for _, node := range []string{"sg-1", "stranger"} {
		t.Run(node, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, c := settled(t, xds.Config{MaxNamesSize: 3*size + size/2})
				var foes []deltaClient
				for i := range 6 {
					foe := rogue(t, f.Server)
					sayNames(t, foe, node, 1000+i) // the newest says the most
					synctest.Wait()
					foes = append(foes, foe)
				}
				ended := 0
				for _, foe := range foes {
					done := make(chan error, 1)
					go func() {
						for {
							if _, err := foe.Recv(); err != nil {
								done <- err
								return
							}
						}
					}()
					synctest.Wait()
					select {
					case err := <-done:
						ended++
						if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "names of more than") {
							t.Error(err)
						}
					default:
					}
				}
				if ended != 3 {
					t.Errorf("%d streams ended", ended)
				}
				for range ended {
					f.event(xds.Disconnected)
				}
				unharmed(t, f, c, 9000)
				again := dial(t, f)
				again.Subscribe(xds.Clusters)
				again.ExpectAck(xds.Clusters, "+a")
				again.Subscribe(xds.Endpoints, "a")
				again.ExpectAck(xds.Endpoints, "+a")
			})
		})
	}
}

// An Envoy with 100,000 groups is far from the bound, while it restarts too.
func TestTwoStreamsWith100000NamesEachHavePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{})
		for range 2 {
			stream := rogue(t, f.Server)
			for range 2 { // of what it asks for again it says nothing new
				sayNames(t, stream, "sg-1", 70_000)
			}
			more := names("another-name-of-some-length-", 30_000)
			if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.Endpoints.URL(), ResourceNamesSubscribe: more}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if st := f.status("sg-1"); st.Streams != 3 {
			t.Errorf("%d streams", st.Streams)
		}
		unharmed(t, f, c, 9000)
	})
}
