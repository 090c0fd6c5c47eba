//go:build compose

package compose_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// answer is what came back for one request.
type answer struct {
	status int
	reason string // dmsc-error, when no pod has answered
	pod    string // who answered
	via    string // the nodes that the request passed: sg-1>sr-2>sg-4
}

// ask sends one request for a prefix to a gateway. The error says why it was
// not answered by a pod.
func (n *network) ask(gateway, prefix string) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.ingress[gateway]+"/", nil)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("dmsc-service-prefix", prefix)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, reason: resp.Header.Get("dmsc-error")}
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("status %d, dmsc-error %q", a.status, a.reason)
	}
	a.pod = resp.Header.Get("x-echo-pod")
	a.via = strings.Trim(strings.ReplaceAll(resp.Header.Get("x-echo-via"), ">,<", ">"), "<>")
	return a, nil
}

// traffic asks for one prefix at one gateway, one request after the other, 50
// times a second.
type traffic struct {
	n      *network
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	started time.Time
	samples []sample
}

type sample struct {
	at  time.Time // of its end
	via string    // "" when lost
	err error
}

// send starts traffic; the test's end stops it if nothing did.
func (n *network) send(gateway, prefix string) *traffic {
	ctx, cancel := context.WithCancel(context.Background())
	f := &traffic{n: n, cancel: cancel, done: make(chan struct{}), started: time.Now()}
	n.t.Cleanup(func() { f.stop() })
	go func() {
		defer close(f.done)
		pace := time.NewTicker(20 * time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
			}
			a, err := n.ask(gateway, prefix)
			f.mu.Lock()
			f.samples = append(f.samples, sample{time.Now(), a.via, err})
			f.mu.Unlock()
		}
	}()
	return f
}

// way is a choice of paths.
type way struct {
	name string
	is   func(via string) bool
}

// eventuallyTakes waits until ten requests in a row, all sent from now on, have
// taken this way, and returns how long that took.
func (f *traffic) eventuallyTakes(w way) time.Duration {
	f.n.t.Helper()
	f.mu.Lock()
	begin := len(f.samples) + 1 // one is under way
	f.mu.Unlock()
	return eventually(f.n.t, 30*time.Second, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.samples) < begin+10 {
			return fmt.Errorf("only %d requests have ended", max(0, len(f.samples)-begin))
		}
		for _, s := range f.samples[len(f.samples)-10:] {
			if s.err != nil || !w.is(s.via) {
				return fmt.Errorf("requests do not take %s: one went %s (%v)", w.name, s.via, s.err)
			}
		}
		return nil
	})
}

// result sums up what happened to the requests of a traffic.
type result struct {
	sent  int
	lost  []error
	gap   time.Duration // longest time from one answer to the next
	paths []string      // those taken, in the order of their first use
}

func (r result) String() string {
	return fmt.Sprintf("%d of %d requests lost, longest gap %v, ways %s",
		len(r.lost), r.sent, r.gap.Round(time.Millisecond), strings.Join(r.paths, ", "))
}

// stop ends the traffic and sums it up.
func (f *traffic) stop() result {
	f.cancel()
	<-f.done
	r := result{sent: len(f.samples)}
	last := f.started
	for _, s := range f.samples {
		if s.err != nil {
			r.lost = append(r.lost, s.err)
			continue
		}
		r.gap = max(r.gap, s.at.Sub(last))
		last = s.at
		if !slices.Contains(r.paths, s.via) {
			r.paths = append(r.paths, s.via)
		}
	}
	return r
}
