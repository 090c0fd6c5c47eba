package linkstate

import (
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// Metrics of AlgorithmDelay (design §4): the least one-way delay of the last
// 30 s, which a queue that fills and drains does not touch, in steps of 0.5 ms.
// A metric changes only for a tenth and a millisecond, and rests for 30 s then,
// so that no traffic follows its own shadow. Getting around queues is the
// SCSC's business.
//
// Clocks are not synchronized, so a way that takes longer than the way back
// counts as half of both.
const (
	delayStep   = 500 * time.Microsecond
	delayWindow = 30 * time.Second
	delayRest   = 30 * time.Second
	delayLeast  = time.Millisecond
	delayShare  = 10 // one part in
)

// delayMetric is the metric of a link by its measured delay.
type delayMetric struct {
	metric  dmsc.Metric   // 0 = never measured: the configured one stands in
	delay   time.Duration // that the metric stands for
	at      time.Time     // of the last change; zero = the next sample counts at once
	samples []delaySample // oldest first and rising: the first is the least of the window
}

type delaySample struct {
	at    time.Time
	delay time.Duration // one way
}

// measured takes in a sample and reports whether the metric changed.
func (d *delayMetric) measured(now time.Time, rtt time.Duration) bool {
	s := delaySample{now, rtt / 2}
	n := len(d.samples)
	for n > 0 && d.samples[n-1].delay >= s.delay {
		n-- // it ends before s does and is no less
	}
	d.samples = append(d.samples[:n], s)
	for now.Sub(d.samples[0].at) >= delayWindow {
		d.samples = d.samples[1:]
	}
	least := d.samples[0].delay
	moved := (least - d.delay).Abs()
	if !d.at.IsZero() && (now.Sub(d.at) < delayRest || moved < delayLeast || delayShare*moved < d.delay) {
		return false
	}
	was := d.metric
	d.metric, d.delay, d.at = inSteps(least), least, now
	return d.metric != was
}

func inSteps(d time.Duration) dmsc.Metric {
	return dmsc.Metric(max(1, min((d+delayStep/2)/delayStep, time.Duration(dmsc.MaxLinkMetric))))
}

// interrupted forgets the samples of a link that has died: it may come back
// over another way. The metric stands until the first new sample.
func (d *delayMetric) interrupted() { d.samples, d.at = nil, time.Time{} }

// resumed takes the metric of an earlier life over, so that a restart changes
// nothing that has not changed.
func (d *delayMetric) resumed(now time.Time, m dmsc.Metric) {
	d.metric, d.delay, d.at = m, time.Duration(m)*delayStep, now
}

// metric is what a link costs in our NodeLSA.
func (i *Instance) metric(a *adjacency) dmsc.Metric {
	switch {
	case a.degraded:
		return dmsc.LastResort
	case i.cfg.Algorithm == AlgorithmDelay && a.delay.metric != 0:
		return a.delay.metric
	}
	return a.Metric
}

// resumeDelays reads the metrics of our last life out of its NodeLSA.
func (i *Instance) resumeDelays(n *NodeLSA) {
	if i.cfg.Algorithm != AlgorithmDelay || n.Algorithm != AlgorithmDelay {
		return
	}
	for _, l := range n.Links {
		if a := i.links[l.key()]; a != nil && l.Metric <= dmsc.MaxLinkMetric {
			a.delay.resumed(i.now, l.Metric)
			i.nodeDirty = true
		}
	}
}
