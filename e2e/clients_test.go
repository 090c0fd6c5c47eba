package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A gateway is taken out of service and its Envoy stopped. Its clients have
// long-lived connections, busy and idle, and requests that may not be asked
// twice; they know a second gateway. None of their requests is lost, and
// afterwards all are at the other gateway.
func TestClientsOfADrainedGatewayLoseNothing(t *testing.T) {
	n := start(t, "")
	const victim, other = "sg-1", "sg-2"
	first, second := n.Node(victim).Ingress, n.Node(other).Ingress
	var stop atomic.Bool
	var sent, there atomic.Int64
	var clients sync.WaitGroup
	for i := range 12 {
		transport := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, first)
			if err != nil { // it is gone: the next of its addresses
				return new(net.Dialer).DialContext(ctx, network, second)
			}
			return c, nil
		}}
		transport.Protocols.SetHTTP1(i%2 == 0)
		transport.Protocols.SetUnencryptedHTTP2(i%2 == 1)
		t.Cleanup(transport.CloseIdleConnections)
		pause := time.Duration(i%3) * 300 * time.Millisecond // some are idle for a while
		clients.Go(func() {
			for !stop.Load() {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://gateway.example/sleep?ms=50", strings.NewReader("once"))
				if err != nil {
					t.Error(err)
					return
				}
				request.GetBody = nil // so that the client itself does not repeat it
				request.Header.Set("dmsc-service-prefix", "b/4")
				sent.Add(1)
				response, err := transport.RoundTrip(request)
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != http.StatusOK {
					t.Errorf("client %d: %d %s %v", i, response.StatusCode, body, err)
				}
				if strings.HasPrefix(response.Header.Get("x-echo-via"), "<"+other+">") {
					there.Add(1)
				}
				time.Sleep(pause)
			}
		})
	}
	until(t, 10*time.Second, "the clients do not come in", func(context.Context) error {
		if sent.Load() < 300 {
			return fmt.Errorf("%d requests", sent.Load())
		}
		return nil
	})
	n.order(t, victim, "drain", "--remove", "--grace", "500ms")
	n.outOfService(t, victim)
	if err := n.KillNode(victim); err != nil {
		t.Fatal(err)
	}
	before := there.Load()
	until(t, 10*time.Second, "the clients are not at the other gateway", func(context.Context) error {
		if there.Load() < before+100 {
			return fmt.Errorf("%d requests there", there.Load()-before)
		}
		return nil
	})
	stop.Store(true)
	clients.Wait()
	t.Logf("measured: %d requests of 12 clients with long-lived connections while %s was drained and stopped", sent.Load(), victim)

	// It lets clients in again when it is taken back.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.StartNode(ctx, victim); err != nil {
		t.Fatal(err)
	}
	n.outOfService(t, victim)
	if _, err := net.Dial("tcp", first); err == nil {
		t.Error("the drained gateway lets clients in")
	}
	n.order(t, victim, "undrain")
	n.settle(t)
	n.reachable(t, victim, "b/4", 200)
}

// A pod takes its prefix back and goes when what it has begun is done: requests
// under way at that moment are answered.
func TestAWithdrawnInstanceFinishesWhatIsUnderWay(t *testing.T) {
	n := shared(t)
	var held atomic.Int64
	release := make(chan struct{})
	p := n.announce(t, "sg-4", "test/leaving", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			held.Add(1)
			<-release
		}
		fmt.Fprint(w, "done")
	})
	n.reachable(t, "sg-1", "test/leaving", 200)
	const requests = 20
	answers := make(chan error, requests)
	for range requests {
		go func() {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+n.Node("sg-1").Ingress+"/hold", strings.NewReader("once"))
			if err != nil {
				answers <- err
				return
			}
			request.Header.Set("dmsc-service-prefix", "test/leaving")
			response, err := h1.Do(request)
			if err != nil {
				answers <- err
				return
			}
			defer response.Body.Close()
			if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != 200 || string(body) != "done" {
				answers <- errors.Join(err, fmt.Errorf("%d %s", response.StatusCode, body))
				return
			}
			answers <- nil
		}()
	}
	until(t, 10*time.Second, "the requests do not reach the pod", func(context.Context) error {
		if held.Load() < requests {
			return fmt.Errorf("%d of %d", held.Load(), requests)
		}
		return nil
	})
	p.withdraw()
	n.gone(t, "sg-1", "test/leaving", 5*time.Second)
	n.absent(t, "test/leaving")
	close(release)
	for range requests {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}
