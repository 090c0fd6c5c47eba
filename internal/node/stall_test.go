package node

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/xds"
)

// The streams of a stopped Envoy stay open for ever: what it owes is an alarm,
// once, and none if it was only slow.
func TestAnEnvoyThatIsConnectedAndOwesAnAnswerIsAnAlarmOnce(t *testing.T) {
	connected := xds.Status{Connected: true, Phase: xds.PhaseClusters}
	live := xds.Status{Connected: true, Converged: true, Phase: xds.PhaseLive}
	at := func(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }
	limit := stallLimit.Seconds()
	begin := func() *loopState {
		l := &loopState{publication: &publication{version: "v2"}, dataPlane: true}
		l.owes(true, t0)
		return l
	}
	due := func(l *loopState, want float64) {
		t.Helper()
		if got := l.stallAt.Sub(t0).Seconds(); got != want {
			t.Errorf("looked at after %v s, not %v", got, want)
		}
	}

	l := begin()
	due(l, limit)
	if what := l.stalled(connected, at(limit)); !strings.Contains(what, "v2 for 10s: its clusters") {
		t.Errorf("%q", what)
	}
	if !l.stallAt.IsZero() {
		t.Error("it would be told again")
	}
	l.owes(false, at(limit+1)) // it goes on, and stops again
	l.owes(true, at(20))
	due(l, 20+limit)

	l = begin() // an older ACK is a sign of life
	l.owes(true, at(4))
	if what := l.stalled(connected, at(limit)); what != "" {
		t.Errorf("%q", what)
	}
	due(l, 4+limit)

	l = begin() // its listener is silent although all is acknowledged
	l.owes(false, at(1))
	l.dataPlane, l.selfSince = false, at(3)
	if what := l.stalled(live, at(limit)); what != "" {
		t.Errorf("%q", what)
	}
	due(l, 3+limit)
	if what := l.stalled(live, at(3+limit)); !strings.Contains(what, "no request for 10s") {
		t.Errorf("%q", what)
	}

	for name, owed := range map[string]func(*loopState, *xds.Status){
		"it is away":              func(_ *loopState, st *xds.Status) { st.Connected = false },
		"it is pinned to another": func(_ *loopState, st *xds.Status) { st.Converged = true },
		"it has refused":          func(l *loopState, _ *xds.Status) { l.refusals = []RefusalStatus{{}} },
	} {
		l, st := begin(), connected
		owed(l, &st)
		if what := l.stalled(st, at(60)); what != "" || !l.stallAt.IsZero() {
			t.Errorf("%s: %q, looked at again %v", name, what, l.stallAt)
		}
	}
}

// What is still so is read even when much else has passed since.
func TestAnAlarmThatStandsIsNotPushedOutByThosePassed(t *testing.T) {
	n := &Node{metrics: newMetrics(), log: slog.New(slog.DiscardHandler)}
	n.standing("certificate_refused", "bad")
	for i := range 2 * maxAlarms {
		n.noteAlarm("clock", fmt.Sprint("wrong by ", i))
	}
	got := n.loop.alarms
	if len(got) != maxAlarms || got[0].Code != "certificate_refused" || got[maxAlarms-1].Text != fmt.Sprint("wrong by ", 2*maxAlarms-1) {
		t.Errorf("%+v", got)
	}
	n.standing("certificate_refused", "")
	if n.loop.alarms[0].Code != "clock" {
		t.Errorf("it is mended and still there: %+v", n.loop.alarms)
	}
}

// A fault that repeats itself must not push the others out of the list.
func TestAnAlarmThatRepeatsTakesOnePlace(t *testing.T) {
	n := &Node{metrics: newMetrics()}
	n.noteAlarm("clock", "wrong")
	for range 2 * maxAlarms {
		n.noteAlarm("not_published", "bad")
	}
	n.noteAlarm("clock", "wrong")
	got := n.loop.alarms
	if len(got) != 2 || got[0].Code != "not_published" || got[0].Times != 2*maxAlarms || got[1].Code != "clock" || got[1].Times != 2 {
		t.Errorf("%+v", got)
	}
}
