package lab

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/toy"
)

func serveToy(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- toy.Serve(ctx, toy.Config{Listener: l, Pod: "pod-1", Prefix: "a/1"}) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return l.Addr().String()
}

// The loop is open: while the wire is black, requests go on being sent, and
// each waits from its own intended start.
func TestLoadMeasuresAnOutageAsClientsFeelIt(t *testing.T) {
	r := relayTo(t, serveToy(t))
	run := Load{Address: r.Addr(), Header: http.Header{"dmsc-via": {"sg-1"}}, RPS: 200, Timeout: 10 * time.Second}.Start()
	await(t, run, 20)
	r.Blackhole(true)
	black := time.Now()
	time.Sleep(300 * time.Millisecond) // the length of the outage, not a wait for something
	r.Blackhole(false)
	outage := time.Since(black)
	after := time.Now()
	await(t, run, 100)
	report := run.Stop()
	t.Logf("outage %v: sent %d, gap %v, p50 %v, p99 %v, max %v", outage, report.Sent, report.Gap, report.P50, report.P99, report.Max)
	if report.OK != report.Sent || report.Err() != nil {
		t.Errorf("lost: %v", report.Err())
	}
	if report.Gap < 250*time.Millisecond || report.Gap > outage+200*time.Millisecond {
		t.Errorf("gap %v in an outage of %v", report.Gap, outage)
	}
	if report.GapStart.Before(black.Add(-50*time.Millisecond)) || report.GapStart.After(after) {
		t.Errorf("gap starts at %v, the outage at %v", report.GapStart, black)
	}
	if n := report.Between(black, after).Sent; n < 50 {
		t.Errorf("%d requests sent during the outage, want about 60", n)
	}
	if len(report.Paths) != 1 || report.Paths[0].Via != "sg-1" || report.Paths[0].Count != report.OK {
		t.Errorf("paths %+v", report.Paths)
	}
	if first, ok := report.First(after, func(res Result) bool { return res.Via == "sg-1" }); !ok || first.Start.Before(after) {
		t.Errorf("first after the outage: %v, %v", first, ok)
	}
}

// await waits until n results are known.
func await(t *testing.T, r *Runner, n int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); len(r.Since(time.Time{})) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("fewer than %d results", n)
		}
	}
}

func TestLoadListsWhatWasLost(t *testing.T) {
	r := relayTo(t, serveToy(t))
	run := Load{Address: r.Addr(), RPS: 200}.Start()
	await(t, run, 20)
	r.Cut(true)
	await(t, run, 60)
	report := run.Stop()
	if report.OK == 0 || len(report.Lost) == 0 || report.OK+len(report.Lost) != report.Sent || report.Err() == nil {
		t.Fatalf("sent %d, ok %d, lost %d", report.Sent, report.OK, len(report.Lost))
	}
	for _, l := range report.Lost {
		if l.Err == "" || l.Status != 0 {
			t.Errorf("lost without a reason: %+v", l)
		}
	}
}
