package translator_test

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// instance is a pod that can be made to fail.
type instance struct {
	ill     atomic.Bool   // what its health path answers
	broken  atomic.Int64  // the status of its requests, 0 for 200, cut for no answer
	held    chan struct{} // what a request waits for, unless nil
	reached atomic.Int64
}

const cut = -1

// instances serves a/1 at sg-2 with so many pods, of HTTP/1.1 and checked at
// /health; sg-1 is the ingress.
func (n *network) instances(t *testing.T, count int, of string) (pods []*instance, ingress string) {
	t.Helper()
	var services []string
	for i := range count {
		p := &instance{}
		pods = append(pods, p)
		name := fmt.Sprint("pod-", i)
		n.serve(t, name, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Host == "health.dmsc":
				if p.ill.Load() {
					w.WriteHeader(http.StatusInternalServerError)
				}
				return
			case p.broken.Load() == cut:
				panic(http.ErrAbortHandler) // ends the connection
			case p.broken.Load() != 0:
				w.WriteHeader(int(p.broken.Load()))
			}
			p.reached.Add(1)
			if p.held != nil {
				<-p.held
			}
			fmt.Fprint(w, name)
		})
		services = append(services, fmt.Sprintf("{prefix: a/1, address: \"{%s}\", health: /health%s}", name, of))
	}
	n.start(t, n.expand(`
node: sg-2
addrs: {ingress: "{sg-2}", fabric: "{sg-2.fabric}", probe: "{sg-2.probe}"}
accessLog: {to: `+filepath.Join(n.dir, "sg-2.json")+`, fabric: true, sampleerrors: 1000000}
podLimits: {connections: 2, pending: 1, requests: 3}
neighbours: [{link: sg-1, data: "{sg-1.fabric}"}]
entries: [{prefix: a/1, local: true`+of+`}]
services: [`+strings.Join(services, ", ")+`]
`))
	n.start(t, n.expand(`
node: sg-1
addrs: {ingress: "{sg-1}", fabric: "{sg-1.fabric}", probe: "{sg-1.probe}"}
neighbours: [{link: sg-2, data: "{sg-2.fabric}"}]
entries: [{prefix: a/1, via: [sg-2]`+of+`}]
`))
	return pods, n.states["sg-1"].Addrs.Ingress
}

// shares asks so many times and counts what answers, "pod-0" or a status.
func (n *network) shares(t *testing.T, ingress string, times int) map[string]int {
	t.Helper()
	count := map[string]int{}
	for range times {
		status, name, _ := strings.Cut(strings.TrimSpace(n.get(t, ingress, "/", "", "dmsc-service-prefix: a/1")), "\n")
		if status != "200" {
			name = status
		}
		count[name]++
	}
	return count
}

// sharedBy waits until the pods named answer all of some requests, and each its
// part of them.
func (n *network) sharedBy(t *testing.T, ingress string, want ...string) {
	t.Helper()
	const times = 30
	for late := time.Now().Add(20 * time.Second); ; {
		got := n.shares(t, ingress, times)
		good := len(got) == len(want)
		for _, name := range want {
			good = good && got[name] >= times/len(want)-2
		}
		if good {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%d requests are answered by %v, not by each of %v", times, got, want)
		}
	}
}

// Several instances of a name share its requests; one whose check fails gets
// none until it passes, and when all fail that is said.
func TestInstancesShareAndAnIllOneIsLeftOut(t *testing.T) {
	n := newNetwork(t, findEnvoy(t))
	pods, ingress := n.instances(t, 3, "")
	n.sharedBy(t, ingress, "pod-0", "pod-1", "pod-2")
	pods[1].ill.Store(true)
	n.sharedBy(t, ingress, "pod-0", "pod-2")
	pods[0].ill.Store(true)
	pods[2].ill.Store(true)
	n.sharedBy(t, ingress, "503 dmsc-error=no-healthy; node=sg-2")
	for _, p := range pods {
		p.ill.Store(false)
	}
	n.sharedBy(t, ingress, "pod-0", "pod-1", "pod-2")
}

// An instance that answers 5xx again and again, or ends the connections of
// requests, gets nothing for a while although its check passes. When all do, they are asked still: half of them at least.
func TestAnInstanceThatFailsIsEjectedAndNeverAllOfThem(t *testing.T) {
	for name, failure := range map[string]int64{"500": 500, "503": 503, "cut": cut} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, findEnvoy(t))
			pods, ingress := n.instances(t, 2, "")
			pods[0].broken.Store(failure)
			n.sharedBy(t, ingress, "pod-1")
			ejected := time.Now() // or shortly before
			const enforced = "cluster.dmsc/local/a/1.outlier_detection.ejections_enforced_consecutive_5xx"
			if got := n.stats(t, "sg-2")[enforced]; got != 1 {
				t.Errorf("%d instances were ejected", got)
			}
			// Two active checks later.
			for time.Since(ejected) < 1200*time.Millisecond {
				if got := n.shares(t, ingress, 1); got["pod-1"] != 1 && time.Since(ejected) < 1500*time.Millisecond {
					t.Errorf("%v after its ejection the instance is asked: %v", time.Since(ejected), got)
				}
			}
			pods[1].broken.Store(failure)
			for answer, count := range n.shares(t, ingress, 20) {
				if strings.Contains(answer, "dmsc-error") {
					t.Errorf("all fail, and %d requests were given to none: %s", count, answer)
				}
			}
			pods[0].broken.Store(0)
			pods[1].broken.Store(0)
			n.sharedBy(t, ingress, "pod-0", "pod-1")
		})
	}
}

// Beyond the limits of its instances a name's requests are refused at once, by
// name, and not repeated; the others are served.
func TestWhatIsBeyondTheLimitsOfPodsIsRefusedAtOnce(t *testing.T) {
	for _, c := range []struct {
		name, of string
		most     int // under way or waiting
	}{
		{"connections and those that wait for one", "", 2 + 1},
		{"requests", ", protocol: http2", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork(t, findEnvoy(t))
			pods, ingress := n.instances(t, 1, c.of)
			pods[0].held = make(chan struct{})
			// One after the other: those that come at once wait for a connection first.
			var within sync.WaitGroup
			for i := range c.most {
				within.Go(func() {
					if got := n.refusal(t, ingress); got != "200 " {
						t.Errorf("within the limit: %s", got)
					}
				})
				for late := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
					const waiting = "cluster.dmsc/local/a/1.upstream_rq_pending_active"
					stats, err := n.envoys["sg-2"].Counters(t.Context(), waiting)
					if err != nil {
						t.Fatal(err)
					}
					waits := int(stats[waiting])
					if int(pods[0].reached.Load())+waits == i+1 {
						break
					}
					if time.Now().After(late) {
						t.Fatalf("%d requests are under way and %d wait, want %d", pods[0].reached.Load(), waits, i+1)
					}
				}
			}
			const beyond = 4
			for range beyond {
				if got := n.refusal(t, ingress); got != "503 not-admitted; node=sg-2" {
					t.Errorf("beyond the limit: %s", got)
				}
			}
			close(pods[0].held)
			within.Wait()
			for _, line := range logged(t, filepath.Join(n.dir, "sg-2.json"), beyond) {
				if line["flags"] != "UO" || line["error"] != "not-admitted; node=sg-2" || line["prefix"] != "a/1" {
					t.Errorf("the log says %v", line)
				}
			}
			if got := n.shares(t, ingress, 5); got["pod-0"] != 5 {
				t.Errorf("afterwards %v", got)
			}
		})
	}
}

// refusal is the status of one request and who refused it.
func (n *network) refusal(t *testing.T, ingress string) string {
	c := &http.Transport{DisableKeepAlives: true}
	response, err := c.RoundTrip(to(t, t.Context(), ingress, "a/1"))
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	return fmt.Sprint(response.StatusCode, " ", response.Header.Get("dmsc-error"))
}
