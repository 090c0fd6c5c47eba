package node

import (
	"fmt"
	"time"

	"github.com/dmsc-mesh/dmsc/xds"
)

// stallLimit is how long an Envoy that is connected may owe its agent an answer
// or an ACK before that is an alarm: far more than a table of 100,000 prefixes
// takes.
const stallLimit = 10 * time.Second

// owes notes that Envoy has still to accept what was published, from now on, or
// has accepted all of it.
func (l *loopState) owes(ack bool, now time.Time) {
	l.unackedFrom = time.Time{}
	if ack {
		l.unackedFrom = now
		l.expect(now)
	}
}

// expect has watchStall look whether Envoy answers in time.
func (l *loopState) expect(now time.Time) {
	if l.stallAt.IsZero() {
		l.stallAt = now.Add(stallLimit)
	}
}

// stalled says what an Envoy of this state owes us for too long, and is to be
// called when stallAt has come; "" for nothing, or for what is told otherwise.
func (l *loopState) stalled(st xds.Status, now time.Time) string {
	l.stallAt = time.Time{}
	silent, unacked := !l.dataPlane && !l.selfSince.IsZero(), !st.Converged && !l.unackedFrom.IsZero()
	switch {
	case !st.Connected || l.publication == nil || len(l.refusals) > 0:
	case silent && now.Sub(l.selfSince) >= stallLimit:
		return fmt.Sprintf("has served no request for %v", now.Sub(l.selfSince).Round(time.Second))
	case unacked && now.Sub(l.unackedFrom) >= stallLimit:
		return fmt.Sprintf("has accepted nothing of configuration %s for %v: its %s are on their way", l.publication.version, now.Sub(l.unackedFrom).Round(time.Second), st.Phase)
	case silent:
		l.stallAt = l.selfSince.Add(stallLimit)
	case unacked:
		l.stallAt = l.unackedFrom.Add(stallLimit)
	}
	return ""
}

// watchStall tells, until it does, of an Envoy that is connected and gives no
// answer. Nobody else would: its streams stay open, and the neighbours have gone
// around it.
func (n *Node) watchStall(now time.Time) {
	const code = "envoy_stalled"
	l := &n.loop
	if l.dataPlane && l.unackedFrom.IsZero() {
		n.standing(code, "")
	}
	if l.stallAt.IsZero() || now.Before(l.stallAt) {
		return
	}
	st, _ := n.envoy.Status(string(n.cfg.Node))
	if what := l.stalled(st, now); what != "" {
		n.standing(code, "our Envoy is connected and "+what+"; is it stopped, or short of processor time? It gets the newest configuration when it goes on")
	}
}
