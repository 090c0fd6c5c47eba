package linkstate

// View returns a picture of the Instance that later events do not change. It
// costs nothing when nothing has changed.
func (i *Instance) View() *View {
	if i.view != nil && !i.stale {
		return i.view
	}
	i.stale, i.unshown = false, 0
	v := &View{
		Node: i.cfg.Node, Role: i.cfg.Role, Incarnation: i.incarnation, Synced: !i.starting,
		Drain: i.drain, Drained: i.drain != DrainNone && i.settledDrain(),
		Records: i.db.all(), Digest: i.db.digest(), Flooding: i.flooding(),
		Adjacencies: make([]Adjacency, 0, len(i.order)),
	}
	for _, a := range i.order {
		a.shownRTT, a.shownPending = a.rtt, len(a.out.pending)
		link := a.LinkConfig
		link.Metric = i.metric(a)
		v.Adjacencies = append(v.Adjacencies, Adjacency{
			LinkConfig: link, State: a.state, Observer: a.observer, Role: a.role, Data: a.data,
			Alive: a.alive, AnsweredBy: a.answeredBy, Resumed: a.resumed, RTT: a.rtt, Since: a.since, Flapping: a.flaps.flapping(), DampedUntil: a.flaps.until, Pending: len(a.out.pending), Covers: a.covers,
		})
	}
	i.view = v
	return v
}
