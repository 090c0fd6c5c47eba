package node

import (
	"reflect"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/translator"
)

// publish translates the node's state for its Envoy. After a start it waits
// until the LSDB is complete and every link that counts has an address: Envoy
// keeps the FIB it has meanwhile.
//
// It reports whether a translation was made.
func (n *Node) publish(changed bool, now time.Time) bool {
	view := n.instance.View()
	if o, last := n.registry.offer(now), n.loop.offered; o != last {
		n.loop.offered = o
		if last == nil {
			last = &offer{}
		}
		changed = changed || !reflect.DeepEqual(o.instances, last.instances)
		if !slices.Equal(o.targets, last.targets) {
			n.detector.SetTargets(o.targets)
		}
	}
	if d := &n.loop.documents; d.inForce != d.handed {
		d.handed = d.inForce
		changed = true
	}
	if last := n.loop.publication; last != nil && (last.closed != n.loop.clientsClosed() || last.outside != n.outsideListener()) {
		changed = true
	}
	if !n.loop.begunPublishing {
		if at := n.complete(view, now); now.Before(at) {
			n.loop.publishAt = at
			return false
		}
		n.loop.publishAt = time.Time{}
		n.loop.begunPublishing = true
		changed = true
	}
	if n.withholds(view, now) {
		return false
	}
	if n.loop.withheld {
		n.loop.withheld, n.loop.publishAt = false, time.Time{}
		changed = true
	}
	if !changed || n.rib == nil {
		return false
	}
	pub := &publication{
		at: now, rib: n.rib, steering: n.loop.steering, retired: n.retiredGroups(), neighbours: neighbours(view), offer: n.loop.offered,
		documents: n.loop.documents.inForce, closed: n.loop.clientsClosed(), outside: n.outsideListener(),
	}
	if last := n.loop.publication; last != nil && !n.loop.unpublished && last.sameInput(pub) {
		return false // a record that no route depends on
	}
	pub.state = translator.State{
		Node: n.cfg.Node, Role: n.cfg.Role, Addrs: n.addrs(), RIB: pub.rib, Retired: pub.retired,
		Neighbours: pub.neighbours, Services: pub.offer.instances, Steering: pub.steering,
		Aliases: pub.documents.Aliases, Externals: pub.documents.Externals,
		Outside: pub.outside, Strict: n.cfg.Envoy.Strict, AccessLog: translator.AccessLog(n.cfg.Envoy.AccessLog),
		Closed: pub.closed, OnDemand: n.cfg.Envoy.OnDemand, PodLimits: translator.PodLimits(n.cfg.Envoy.PodLimits),
		Source: translator.Source(n.cfg.Envoy.XDS),
	}
	n.program(pub)
	return true
}

// lull is how long an LSDB in which nothing is missing has not changed when it is
// taken for complete.
const lull = 200 * time.Millisecond

// complete is when what we know may replace what Envoy runs, as far as can be
// told now. An Envoy that forwards by the FIB of our last life may know more than
// we do although our neighbours have told us all: when the whole control plane
// starts at once, they know no more themselves.
func (n *Node) complete(view *linkstate.View, now time.Time) time.Time {
	limit, calm := n.started.Add(publishLimit), n.loop.heard.Add(lull)
	switch {
	case !view.Synced || !n.loop.dataPlaneKnown || !addressed(view):
		return limit
	case !n.loop.dataPlane: // Envoy is as new as we are
		return now
	case !calm.Before(limit):
		return limit
	case now.Before(calm): // what comes meanwhile is another database
		return calm
	case !n.allTold(view.Records):
		return limit
	}
	return calm
}

// allTold is closed, once for each change of the records: a large database must
// not be walked in each turn.
func (n *Node) allTold(records linkstate.Records) bool {
	if l := &n.loop; l.toldAt != l.heard {
		l.toldAt, l.told = l.heard, closed(records)
	}
	return n.loop.told
}

// closed reports whether every node that a node has a link to has told of its own
// links.
func closed(records linkstate.Records) bool {
	told, linked := map[dmsc.NodeID]bool{}, map[dmsc.NodeID]bool{}
	for r := range records.All() {
		if l, ok := r.Content.(*linkstate.NodeLSA); ok {
			told[r.Origin] = true
			for _, link := range l.Links {
				linked[link.Remote] = true
			}
		}
	}
	for id := range linked {
		if !told[id] {
			return false
		}
	}
	return true
}

// withholds: our own Envoy is silent, or was a moment ago and our links are not
// back. Neighbours go around us, but that takes the routes from us too. If the
// Envoy is only slow, its own clients still go by what it runs.
func (n *Node) withholds(view *linkstate.View, now time.Time) bool {
	l := &n.loop
	switch {
	case !l.withheld || l.publication == nil:
		return false
	case !l.dataPlane:
		return l.selfSilent >= selfSilences // or it has ended
	case !now.Before(l.publishAt):
		return false
	}
	return l.pending != 0 || slices.ContainsFunc(view.Adjacencies, func(a linkstate.Adjacency) bool {
		return !a.Observer && a.State == linkstate.StateSynced
	})
}

// alarming is the number of names from which on Envoy hears of a dead next hop
// before anything else is done: with fewer, that takes no longer than to compute
// and translate everything.
const alarming = 1000

// publishHealth tells Envoy of a large FIB which next hops are dead, and nothing
// else. It goes on by their alternates at once, while the routes without them
// are being computed, or wait for that in a storm.
func (n *Node) publishHealth(now time.Time) {
	last := n.loop.publication
	if last == nil || n.loop.unpublished || n.loop.withheld || last.rib.Len() < alarming {
		return
	}
	nbs := neighbours(n.instance.View())
	sameLink := func(a, b translator.Neighbour) bool { return a.LinkKey == b.LinkKey }
	if slices.Equal(nbs, last.neighbours) || !slices.EqualFunc(nbs, last.neighbours, sameLink) {
		return
	}
	pub := *last
	pub.at, pub.neighbours, pub.state.Neighbours = now, nbs, nbs
	n.program(&pub)
}

// program has Envoy run what follows from a publication's state.
func (n *Node) program(pub *publication) {
	begun := time.Now()
	set, err := n.translator.Translate(pub.state)
	translated := time.Now()
	if err == nil {
		n.handed.Store(pub)
		pub.version, err = n.envoy.Publish(string(n.cfg.Node), n.setOf(set, pub))
	}
	if run := n.loop.run; run != nil {
		run.translate, run.publish, run.version, run.failed = translated.Sub(begun), time.Since(translated), pub.version, err != nil
	}
	if err != nil {
		n.noteAlarm("not_published", err.Error())
		n.log.Error("configuration is not published; envoy keeps what it has", "err", err)
		n.loop.unpublished = true
		return
	}
	if last := n.loop.publication; last != nil && last.version == pub.version {
		pub.at = last.at // Envoy has nothing to do
	}
	n.loop.publication, n.loop.unpublished = pub, false
	if pub.version == n.loop.acked {
		n.ran(pub)
		n.loop.owes(false, begun)
	} else if n.loop.unackedFrom.IsZero() {
		n.loop.owes(true, begun)
	}
	n.timeline.note(time.Now(), Moment{Step: StepPublished, Version: pub.version})
	newest(n.published, pub.rib.Len())
}

// ran notes that Envoy runs a publication as a whole.
func (n *Node) ran(pub *publication) {
	n.loop.running = pub
	if n.documents != nil && n.loop.documents.ran(pub.documents) {
		n.loop.dirty = true
	}
}

// addressed reports whether the data address of every advertised link is known.
// One that a restart has resumed gets it with its stream.
func addressed(v *linkstate.View) bool {
	return !slices.ContainsFunc(v.Adjacencies, func(a linkstate.Adjacency) bool {
		return a.Advertised() && !a.Observer && a.Data == ""
	})
}

// neighbours are the far ends of our links as the translator wants them.
func neighbours(v *linkstate.View) []translator.Neighbour {
	var out []translator.Neighbour
	for _, a := range v.Adjacencies {
		if a.Observer {
			continue
		}
		var nb translator.Neighbour
		nb.LinkKey, nb.Data, nb.Class, nb.Up = a.LinkKey, a.Data, a.Class, a.Advertised()
		out = append(out, nb)
	}
	return out
}
