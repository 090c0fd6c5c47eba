package xds_test

import (
	"maps"
	"slices"
	"strings"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// envoy answers as Envoy 1.40 does where it matters for order: a cluster is
// usable once it is warm, warming ends with an assignment that comes after the
// cluster, clusters are acknowledged when all are warm, and bad ones are
// refused while the rest of the response is taken.
type envoy struct {
	*wire
	active, warming map[string]content
	seen            map[*message]bool // taken, and perhaps not answered
}

func newEnvoy() *envoy {
	return &envoy{active: map[string]content{}, warming: map[string]content{}, seen: map[*message]bool{}}
}

// start asks for what an Envoy asks for first.
func (e *envoy) start(c *wire) {
	e.wire = c
	c.ask(xds.Clusters, nil, nil, nil, "")
	c.ask(xds.Listeners, nil, nil, nil, "")
}

func (e *envoy) idle() bool {
	return !slices.ContainsFunc(e.inbox, func(m *message) bool { return !e.seen[m] })
}

// next takes the next response.
func (e *envoy) next() {
	i := slices.IndexFunc(e.inbox, func(m *message) bool { return !e.seen[m] })
	if i < 0 {
		return
	}
	m := e.inbox[i]
	e.seen[m] = true
	e.log("take %s %v", m.typ, slices.Sorted(maps.Keys(m.items)))
	switch m.typ {
	case xds.Clusters:
		e.takeClusters(m)
	case xds.Endpoints:
		e.warm(m)
		e.ack(m)
	case xds.Routes:
		e.ack(m)
	case xds.Listeners:
		e.ack(m)
		e.follow(xds.Listeners, xds.Routes, nil)
	}
	e.confirm()
}

func (e *envoy) takeClusters(m *message) {
	for n, x := range m.items {
		switch {
		case x == gone:
			delete(e.active, n)
			delete(e.warming, n)
		case e.w.bad[x]:
		case e.active[n] == x:
			delete(e.warming, n)
		default:
			e.warming[n] = x
		}
	}
	running := maps.Clone(e.active)
	maps.Copy(running, e.warming)
	e.follow(xds.Clusters, xds.Endpoints, running)
}

// warm ends the warming of the clusters that take their endpoints from m.
func (e *envoy) warm(m *message) {
	for n, x := range m.items {
		if x == gone {
			continue
		}
		for c, cluster := range e.warming {
			if slices.Contains(e.w.uses[cluster], name{xds.Endpoints, n}) {
				e.active[c] = cluster
				delete(e.warming, c)
			}
		}
	}
}

// confirm answers the clusters once all are warm.
func (e *envoy) confirm() {
	for len(e.warming) == 0 {
		i := slices.IndexFunc(e.inbox, func(m *message) bool { return e.seen[m] })
		if i < 0 {
			return
		}
		m := e.inbox[i]
		var bad []string
		for _, n := range slices.Sorted(maps.Keys(m.items)) {
			if e.w.bad[m.items[n]] {
				bad = append(bad, n)
			}
		}
		if bad == nil {
			e.ack(m)
			continue
		}
		for n, x := range m.items {
			if !slices.Contains(bad, n) {
				e.take(name{m.typ, n}, x)
			}
		}
		e.subs[m.typ].version = "" // it runs something between two versions
		e.nack(m, bad, "Error adding/updating cluster(s) "+strings.Join(bad, ": no, ")+": no")
	}
}

// follow subscribes to what the resources of one type need of another, and
// leaves what they no longer need.
func (e *envoy) follow(from, to xds.Type, running map[string]content) {
	needed := map[string]bool{}
	for n, x := range running {
		_ = n
		for _, used := range e.w.uses[x] {
			needed[used.name] = true
		}
	}
	if running == nil {
		for n, entry := range e.entries {
			if n.typ != from {
				continue
			}
			for _, used := range e.w.uses[entry.held] {
				needed[used.name] = true
			}
		}
	}
	var subscribe, unsubscribe []string
	for n := range needed {
		if !e.asks(name{to, n}) {
			subscribe = append(subscribe, n)
		}
	}
	for _, n := range slices.Concat(e.subs[to].wish, slices.Collect(maps.Keys(e.subs[to].names))) {
		if !needed[n] && e.asks(name{to, n}) && !slices.Contains(unsubscribe, n) {
			unsubscribe = append(unsubscribe, n)
		}
	}
	if subscribe == nil && unsubscribe == nil {
		return
	}
	slices.Sort(subscribe)
	slices.Sort(unsubscribe)
	nonce := ""
	if e.Dialect == xdstest.SotW {
		nonce = e.subs[to].answered
	}
	e.ask(to, subscribe, unsubscribe, nil, nonce)
}
