package scsc

import (
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Both ends of a link measure it: the worse value counts, and what one end
// sends adds to what the other receives in the same direction.
func TestLinkJoinsWhatItsTwoEndsMeasure(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const ms, stale = time.Millisecond, 15 * time.Second
	ab, ba := linkstate.LinkKey{Remote: "b", ID: "0"}, linkstate.LinkKey{Remote: "a", ID: "0"}
	near := LinkReport{Link: ab, Probes: 10, Lost: 1, RTTMedian: 10 * ms, Jitter: 3 * ms, SentBPS: 30, ReceivedBPS: 5}
	far := LinkReport{Link: ba, Probes: 10, RTTMedian: 40 * ms, Jitter: ms, SentBPS: 10, ReceivedBPS: 20}
	for _, tc := range []struct {
		name      string
		near, far LinkReport
		capacity  uint64
		farAge    time.Duration
		want      Quality
		known     bool
	}{
		{"both", near, far, 100, time.Second, Quality{20 * ms, 3 * ms, 0.1, 50, false}, true},
		{"both, seen the other way", far, near, 100, time.Second, Quality{20 * ms, 3 * ms, 0.1, 50, false}, true},
		{"the far end is stale", near, far, 100, stale + 1, Quality{5 * ms, 3 * ms, 0.1, 70, false}, true},
		{"capacity unknown", near, far, 0, time.Second, Quality{20 * ms, 3 * ms, 0.1, Unlimited, true}, true},
		{"more used than there is", near, far, 40, time.Second, Quality{20 * ms, 3 * ms, 0.1, 0, false}, true},
		{"nobody is answered", LinkReport{Probes: 3, Lost: 3}, LinkReport{}, 100, time.Second, Quality{Available: Unlimited, Uncertain: true}, false},
	} {
		rs := make(reports)
		tc.near.Link, tc.far.Link = ab, ba
		rs.add(now, "a", Telemetry{Links: []LinkReport{tc.near}})
		rs.add(now.Add(-tc.farAge), "b", Telemetry{Links: []LinkReport{tc.far}})
		got, at, known := rs.link(now, stale, "a", ab, tc.capacity)
		if got != tc.want || known != tc.known || known && at != now {
			t.Errorf("%s: %+v %v %v, want %+v %v", tc.name, got, at, known, tc.want, tc.known)
		}
	}
}

// Of several instances behind one egress the slowest healthy one counts.
func TestServiceIsTheSlowestHealthyInstance(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := dmsc.MustParsePrefix("a/1")
	rs := make(reports)
	if q, healthy, known := rs.service(now, time.Second, "a", p); q != none || !healthy || !known {
		t.Errorf("a target that never reports: %+v %v %v, want fast and healthy", q, healthy, known)
	}
	rs.add(now, "a", Telemetry{Services: []ServiceReport{
		{Prefix: p, Healthy: true, Delay: 2}, {Prefix: p, Healthy: true, Delay: 5, Jitter: 1}, {Prefix: p, Delay: 9},
	}})
	if q, healthy, known := rs.service(now, time.Second, "a", p); q.Delay != 5 || q.Jitter != 1 || !healthy || !known {
		t.Errorf("three instances: %+v %v %v, want the slower healthy one", q, healthy, known)
	}
	if _, _, known := rs.service(now.Add(2*time.Second), time.Second, "a", p); known {
		t.Error("a stale report is known")
	}
}
