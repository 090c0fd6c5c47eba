package node

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/measure"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/scsc"
	"github.com/dmsc-mesh/dmsc/translator"
)

// How often our own Envoy is asked whether it serves a FIB, and how long it
// may take to answer.
const (
	selfWatch     = time.Second
	selfWatchDown = 50 * time.Millisecond
	selfTimeout   = 300 * time.Millisecond
)

// wireProbes makes what measures.
func (n *Node) wireProbes() {
	n.prober = measure.NewProber(measure.ProberConfig{
		Listener: n.cfg.Envoy.Probe,
		OnResult: func(r measure.Result) { n.deliver(probed(r)) },
	})
	var links []measure.Link
	for _, l := range n.cfg.Links {
		links = append(links, measure.Link{LinkKey: linkKey(l), Class: l.Class})
	}
	n.prober.SetLinks(links)
	n.detector = measure.NewDetector(func(d measure.Detection) { n.deliver(detected(d)) })
	n.kickSelf, n.kickTraffic = make(chan struct{}, 1), make(chan struct{}, 1)
}

// watchSelf asks our own Envoy for its hello: regularly, and at once whenever
// its xDS stream comes, goes or brings an ACK.
func (n *Node) watchSelf(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-n.kickSelf:
		case <-ctx.Done():
			return nil
		}
		ask, cancel := context.WithTimeout(ctx, selfTimeout)
		id, _, err := measure.ProbeSelf(ask, n.cfg.Envoy.Fabric)
		cancel()
		up := err == nil && id == n.cfg.Node
		n.deliver(selfProbed{up: up, silent: errors.Is(err, context.DeadlineExceeded)})
		if up {
			timer.Reset(selfWatch)
		} else {
			timer.Reset(selfWatchDown)
		}
	}
}

// countTraffic reads Envoy's byte counters whenever a report has been made, for
// the next one.
func (n *Node) countTraffic(ctx context.Context) error {
	t := measure.NewTraffic(n.cfg.Envoy.Admin, n.clusterLinks)
	defer t.Close()
	for {
		select {
		case <-n.kickTraffic:
		case <-ctx.Done():
			return nil
		}
		ask, cancel := context.WithTimeout(ctx, time.Second)
		rates, err := t.Read(ask, time.Now())
		cancel()
		if err != nil {
			n.log.Debug("envoy's counters cannot be read", "err", err)
			rates = nil // unknown is not zero: the next report has no figure
		}
		n.deliver(trafficCounted{rates})
	}
}

// clusterLinks names the links that requests to a cluster take.
func (n *Node) clusterLinks(cluster string) []linkstate.LinkKey {
	p := n.picture.Load()
	if p == nil || p.rib == nil {
		return nil
	}
	for _, g := range p.rib.Groups {
		if translator.GroupCluster(g) == cluster {
			var out []linkstate.LinkKey
			for _, h := range g.Primaries {
				out = append(out, h.LinkKey)
			}
			return out
		}
	}
	var out []linkstate.LinkKey
	for _, l := range n.cfg.Links {
		if translator.NeighbourCluster(l.Neighbor) == cluster {
			out = append(out, linkKey(l))
		}
	}
	return out
}

// quality is what is measured of one link. Loss is of a living link: one that
// never answered, or has died, has no quality.
type quality struct {
	window measure.Window
	living bool
	misses int // in a row
	// What the timeline has of it.
	noted, answered bool
	said            linkstate.SetQuality
	saidAt          time.Time
}

// deadMisses in a row end a link's life (design §4).
const deadMisses = 3

func (q *quality) probed(now time.Time, r measure.Result) {
	if r.OK {
		q.living, q.misses = true, 0
		q.window.Add(now, r.RTT, r.Cold)
		return
	}
	if q.misses++; q.misses >= deadMisses {
		q.living, q.window = false, measure.Window{Span: q.window.Span}
	}
	if q.living {
		q.window.AddLost(now)
	}
}

// How much a measured value must change to be flooded, and how long it rests
// then (RFC 8570 §6 asks for a filter).
const (
	floodDelayShare = 0.1
	floodDelay      = time.Millisecond
	floodLoss       = 0.01
	floodRest       = 30 * time.Second
)

// news reports whether the measured values are worth flooding.
func (q *quality) news(now time.Time, s linkstate.SetQuality) bool {
	moved := (s.Delay - q.said.Delay).Abs()
	return (q.saidAt.IsZero() || now.Sub(q.saidAt) >= floodRest) &&
		(moved >= floodDelay && moved.Seconds() >= floodDelayShare*q.said.Delay.Seconds() || math.Abs(s.Loss-q.said.Loss) >= floodLoss)
}

// quality of a link: its window is long enough for a few samples of the class,
// and short enough to show a fault within seconds.
func (n *Node) quality(link linkstate.LinkKey) *quality {
	q := n.loop.qualities[link]
	if q == nil {
		q = &quality{window: measure.Window{Span: 2 * time.Second}}
		for _, l := range n.cfg.Links {
			if linkKey(l) == link {
				q.window.Span = max(q.window.Span, 10*l.Class.ProbeInterval())
			}
		}
		n.loop.qualities[link] = q
	}
	return q
}

// report tells the SCSC what was measured (draft §5(3)).
func (n *Node) report(now time.Time) {
	if n.scsc == nil {
		return
	}
	t := scsc.Telemetry{Window: n.loop.plan.Every()}
	for _, l := range n.cfg.Links {
		key := linkKey(l)
		measured := n.quality(key)
		q := measured.window.Quality(now)
		if q.Probes == 0 {
			continue
		}
		rate := n.loop.rates[key]
		t.Links = append(t.Links, scsc.LinkReport{
			Link: key, Probes: q.Probes, Lost: q.Lost, RTTMin: q.Min, RTTMedian: q.Median, RTTP95: q.P95, Jitter: q.Jitter / 2,
			SentBPS: rate.Sent, ReceivedBPS: rate.Received, CapacityBPS: l.Capacity,
		})
		flooded := linkstate.SetQuality{
			Link: key, Delay: q.Median / 2, Jitter: q.Jitter / 2, Loss: float64(q.Lost) / float64(q.Probes),
			Capacity: l.Capacity, Available: l.Capacity - min(l.Capacity, max(rate.Sent, rate.Received)),
		}
		if measured.news(now, flooded) {
			measured.said, measured.saidAt = flooded, now
			n.instance.Step(now, flooded)
		}
	}
	for _, d := range n.detector.Detections() {
		t.Services = append(t.Services, scsc.ServiceReport{
			Prefix: d.Prefix, Address: d.Address, Healthy: d.Healthy, Delay: d.Delay, Jitter: d.Jitter, InFlight: d.InFlight,
		})
	}
	n.scsc.Report(t)
	kick(n.kickTraffic)
}

// kick wakes a goroutine that may already be awake.
func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
