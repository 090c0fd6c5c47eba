package translator_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/dmsc-mesh/dmsc/translator"
)

// The heap is really full: of bodies that a pod does not read, on many
// connections. New requests are refused as documented while hello goes on, and
// when the pod reads, requests are served again, by the same Envoy.
func TestAnEnvoyWhoseHeapIsFullShedsRequestsAndRecovers(t *testing.T) {
	const room = 48 << 20
	n := newNetwork(t, findEnvoy(t))
	read := make(chan struct{})
	n.serve(t, "pod", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			<-read
			io.Copy(io.Discard, r.Body)
		}
	})
	scene := n.expand(`
node: sg-1
addrs: {ingress: "{sg-1}", fabric: "{sg-1.fabric}", probe: "{sg-1.probe}"}
entries: [{prefix: a/1, local: true}]
services: [{prefix: a/1, address: "{pod}"}]
`)
	n.startAs(t, scene, func(boot *bootstrapv3.Bootstrap) { translator.SetMaxHeap(boot, room) })
	addrs := n.states["sg-1"].Addrs
	ask := func() string { return n.get(t, addrs.Ingress, "/", "", "dmsc-service-prefix: a/1") }
	if got := ask(); !strings.HasPrefix(got, "200") {
		t.Fatalf("an idle Envoy of %d bytes answers %s", n.allocated(t, "sg-1"), got)
	}
	idle := n.allocated(t, "sg-1")

	var uploads sync.WaitGroup
	release := sync.OnceFunc(func() { close(read) })
	defer uploads.Wait()
	defer release()
	var waiting []context.CancelFunc
	add := func() {
		ctx, cancel := context.WithCancel(t.Context())
		waiting = append(waiting, cancel)
		uploads.Go(func() {
			request := to(t, ctx, addrs.Ingress, "a/1")
			request.Method, request.Body, request.ContentLength = http.MethodPost, &counted{left: 4 << 20}, 4<<20
			c := &http.Transport{DisableKeepAlives: true}
			if response, err := c.RoundTrip(request); err == nil { // those that come too late are refused
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		})
	}
	const refusal = "503 dmsc-error=overloaded; node=sg-1\ndmsc: the Envoy of sg-1 is short of memory\n"
	seen := map[string]int{}
	for late := time.Now().Add(30 * time.Second); ; time.Sleep(30 * time.Millisecond) { // Envoy looks four times a second
		got := ask()
		seen[got]++
		if got == refusal {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("%d bodies wait, Envoy holds %d KiB (idle %d), and it has answered %v", len(waiting), n.allocated(t, "sg-1")>>10, idle>>10, seen)
		}
		if strings.HasPrefix(got, "200") {
			add()
		} else if len(waiting) > 0 { // connections are refused by now
			waiting[0]()
			waiting = waiting[1:]
			time.Sleep(300 * time.Millisecond)
		}
	}
	t.Logf("%d bodies fill %d KiB (idle %d); answers on the way: %v", len(waiting), n.allocated(t, "sg-1")>>10, idle>>10, seen)
	if got := n.get(t, addrs.Fabric, "/", "", "dmsc-service-prefix: dmsc/hello"); !strings.HasPrefix(got, "200") {
		t.Errorf("hello: %s", got)
	}
	release()
	uploads.Wait()
	began := time.Now()
	for got := ""; !strings.HasPrefix(got, "200"); {
		if got = ask(); time.Since(began) > 20*time.Second {
			t.Fatalf("%v after all has been read, with %d KiB, it answers %s", time.Since(began), n.allocated(t, "sg-1")>>10, got)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("serves again %v after all has been read", time.Since(began).Round(time.Millisecond))
}
