package xds_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// stage is a server, what is published, and one client.
type stage struct {
	t       *testing.T
	p       *play
	w       *world
	srv     *xds.Server
	conn    *grpc.ClientConn
	c       *wire
	dialect xdstest.Dialect
	envoy   *envoy // nil for a client of the other kind
	version string
}

const gateTimeout = 2 * time.Second

func newStage(t *testing.T, p *play) *stage {
	r := rand.New(rand.NewPCG(p.seed, 0))
	s := &stage{t: t, p: p, w: newWorld(r), dialect: xdstest.Dialect(p.seed % 2)}
	kind := "any client"
	if p.seed/2%2 == 0 {
		s.envoy, kind = newEnvoy(), "an Envoy"
	}
	p.stats[fmt.Sprintf("%s, %s", kind, s.dialect)]++
	s.note("%s, %s: %s", kind, s.dialect, s.w)
	s.serve()
	published := r.IntN(2) == 0
	if published {
		s.publish()
	}
	s.connect()
	if s.envoy != nil {
		s.envoy.start(s.c)
	} else {
		s.start(r)
	}
	if !published {
		s.publish()
	}
	return s
}

// start asks for all, in one of the two ways, or for nothing yet.
func (s *stage) start(r *rand.Rand) {
	for _, typ := range []xds.Type{xds.Clusters, xds.Listeners} {
		switch r.IntN(3) {
		case 0:
			s.note("ask for all %s, the old way", typ)
			s.c.ask(typ, nil, nil, nil, "")
		case 1:
			s.note("ask for * of %s", typ)
			s.c.ask(typ, []string{"*"}, nil, nil, "")
		}
	}
}

func (s *stage) note(format string, args ...any) {
	s.p.log = append(s.p.log, fmt.Sprintf(format, args...))
}

func (s *stage) serve() {
	wait := gateTimeout
	if s.envoy != nil {
		wait = 24 * time.Hour // never needed
	}
	s.srv = xds.New(xds.Config{GateTimeout: wait})
	s.conn = xdstest.Serve(s.t, s.srv)
	s.version = ""
}

// connect opens a stream on which nothing was said yet.
func (s *stage) connect() {
	stream, err := xdstest.Open(s.conn, s.dialect, "sg-1")
	if err != nil {
		s.t.Fatal(err)
	}
	s.c = newWire(stream, s.w, s.p.stats, s.note)
	s.c.published = s.version != ""
	if s.envoy != nil {
		s.envoy.wire = s.c
		s.c.usable = func(n name) bool { return s.envoy.active[n.name] != gone }
	}
}

func (s *stage) publish() {
	version, err := s.srv.Publish("sg-1", s.w.set())
	if s.version = version; s.c == nil {
		return
	}
	if err != nil {
		s.c.wrong("publish: %v", err)
	}
	s.c.published = true
	s.c.listen()
}

// change publishes a world in which a few things are different.
func (s *stage) change(r *rand.Rand) {
	before := s.w.want
	var what []string
	for range 1 + r.IntN(3) {
		what = append(what, s.w.mutate(r, s.envoy != nil))
		s.w.settle()
	}
	s.note("publish: %s: %s", strings.Join(what, ", "), s.w)
	s.c.wants(before)
	s.publish()
}

func (s *stage) act(r *rand.Rand) {
	switch n := r.IntN(100); {
	case n < 30:
		s.change(r)
	case n < 34:
		s.reconnect(r)
	case n < 40:
		s.curtain()
	case s.envoy != nil:
		for range 1 + r.IntN(4) {
			s.envoy.next()
		}
	case n < 65:
		s.reply(r)
	default:
		s.improvise(r)
	}
}

// reply answers the oldest response of a type as any client may.
func (s *stage) reply(r *rand.Rand) {
	if len(s.c.inbox) == 0 {
		return
	}
	typ := s.c.inbox[r.IntN(len(s.c.inbox))].typ
	m := s.c.inbox[slices.IndexFunc(s.c.inbox, func(m *message) bool { return m.typ == typ })]
	all := slices.Sorted(maps.Keys(m.items))
	// A state-of-the-world server cannot know what its client brought along, so
	// a refusal of it says nothing of what the client runs.
	brought := slices.ContainsFunc(all, func(n string) bool { e := s.c.entries[name{typ, n}]; return e != nil && e.brought })
	if r.IntN(6) > 0 || brought {
		s.note("ack %s %v", typ, all)
		s.c.ack(m)
		return
	}
	blamed := slices.DeleteFunc(slices.Clone(all), func(n string) bool {
		e := s.c.entries[name{typ, n}]
		return r.IntN(2) == 0 || e == nil || e.held == m.items[n]
	})
	words := "no reason given"
	if len(blamed) > 0 {
		words = "cannot take " + strings.Join(blamed, ", ") + "."
	} else {
		blamed = all
	}
	partly := r.IntN(2) == 0 && s.dialect == xdstest.Delta
	s.note("nack %s %v: %s (takes the rest: %t)", typ, all, words, partly)
	if partly {
		for n, x := range m.items {
			if !slices.Contains(blamed, n) {
				s.c.take(name{typ, n}, x)
			}
		}
	}
	s.c.nack(m, blamed, words)
}

// improvise says something that the protocol allows.
func (s *stage) improvise(r *rand.Rand) {
	typ := xds.Type(r.IntN(int(types)))
	pool := [types][]string{clusterNames, append(slices.Clone(clusterNames), "shared"), routeNames, listenerNames}[typ]
	var subset []string
	for _, n := range append(slices.Clone(pool), "nowhere") {
		if r.IntN(3) == 0 {
			subset = append(subset, n)
		}
	}
	sub := &s.c.subs[typ]
	nonce := ""
	if s.dialect == xdstest.SotW {
		nonce = sub.answered
	}
	wildcard := typ == xds.Clusters || typ == xds.Listeners
	switch r.IntN(10) {
	case 0:
		if sub.asked || !wildcard {
			return
		}
		s.note("ask for all %s, the old way", typ)
		s.c.ask(typ, nil, nil, nil, nonce)
	case 1:
		if !wildcard {
			return
		}
		if sub.all && sub.named {
			s.note("leave * of %s", typ)
			s.c.ask(typ, nil, []string{"*"}, nil, nonce)
		} else {
			s.note("ask for * of %s", typ)
			s.c.ask(typ, []string{"*"}, nil, nil, nonce)
		}
	case 2, 3:
		s.note("leave %s %v", typ, subset) // some of them were never asked for
		if !sub.asked || len(subset) == 0 {
			return
		}
		s.c.ask(typ, nil, subset, nil, nonce)
	case 4:
		if s.dialect == xdstest.SotW || len(subset) == 0 {
			nonce = "stale"
		} else {
			nonce = []string{"stale", sub.answered}[r.IntN(2)]
		}
		if !sub.asked || len(subset) == 0 {
			return
		}
		s.p.stats["stale requests"]++
		s.note("ask for %s %v with the nonce %q", typ, subset, nonce)
		s.c.ask(typ, subset, nil, nil, nonce)
	case 5:
		if !sub.asked || s.dialect == xdstest.SotW {
			return
		}
		s.note("refuse a response of %s that nobody sent", typ)
		s.c.say(xdstest.Request{Type: typ, Nonce: "stale", Refused: true, Words: "c r l"})
	case 6:
		s.note("time passes")
		s.p.stats["waits ended by the clock"]++
		s.c.elapse(gateTimeout)
	default:
		if len(subset) == 0 {
			return
		}
		s.note("ask for %s %v", typ, subset) // some of them for the second time
		s.c.ask(typ, subset, nil, nil, nonce)
	}
}

// curtain lets everything come to rest and looks at what is there; then what
// was refused is made good, and must come as well.
func (s *stage) curtain() {
	s.rest()
	s.note("at rest")
	if why := s.c.agrees(); why != "" {
		s.c.wrong("at rest: %s", why)
	}
	refused := s.c.refused()
	if s.envoy != nil && len(refused) == 0 && s.c.fault == "" {
		if st, _ := s.srv.Status("sg-1"); !st.Converged || st.Acked != s.version {
			s.c.wrong("at rest: an Envoy that runs %s is told to be in %+v", s.version, st)
		}
	}
	if s.c.fault != "" {
		return
	}
	before := s.w.want
	s.w.heal(refused)
	if maps.Equal(before, s.w.want) {
		return
	}
	s.note("heal %v: %s", refused, s.w)
	s.c.wants(before)
	s.publish()
	s.rest()
	if left := s.c.refused(); len(left) > 0 {
		s.c.wrong("healed, and still refused: %v", left)
	}
	if why := s.c.agrees(); why != "" {
		s.c.wrong("healed: %s", why)
	}
}

func (s *stage) rest() {
	for range 500 {
		if s.c.fault != "" {
			return
		}
		switch {
		case s.envoy != nil && s.envoy.idle():
			if len(s.c.inbox) > 0 {
				s.c.wrong("at rest: clusters never became warm: %v", slices.Sorted(maps.Keys(s.envoy.warming)))
			}
			s.c.late = false
			return
		case s.envoy != nil:
			s.envoy.next()
		case len(s.c.inbox) > 0:
			m := s.c.inbox[0]
			s.note("ack %s %v", m.typ, slices.Sorted(maps.Keys(m.items)))
			s.c.ack(m)
		default:
			if s.c.elapse(3 * gateTimeout); len(s.c.inbox) == 0 {
				s.c.late = false
				return
			}
		}
	}
	s.c.wrong("there is no end to it")
}

// reconnect ends the stream and opens another, perhaps to another server that
// publishes the same. The client says what it holds, or lies.
func (s *stage) reconnect(r *rand.Rand) {
	last := s.c
	last.End()
	synctest.Wait()
	s.p.stats["reconnects"]++
	late := false
	where := "reconnect"
	if r.IntN(2) == 0 {
		s.p.stats["replicas"]++
		where = "reconnect to a replica"
		s.serve()
		if late = r.IntN(2) == 0; late {
			where += " that knows nothing yet"
		} else {
			s.publish()
		}
	}
	s.connect()
	s.c.late = s.dialect == xdstest.SotW
	lies := r.IntN(3) == 0
	s.note("%s (lies: %t)", where, lies)
	if s.envoy != nil {
		clear(s.envoy.warming)
		clear(s.envoy.seen)
	}
	for _, typ := range []xds.Type{xds.Clusters, xds.Endpoints, xds.Listeners, xds.Routes} {
		if last.subs[typ].asked {
			s.resume(r, typ, last, lies)
		}
	}
	defer s.recognize()
	if late {
		s.publish()
	}
	if !lies && s.c.since == [types]int{} && len(s.c.inbox) == 0 {
		s.p.stats["nothing sent to a client that returns"]++
	}
}

// recognize: a state-of-the-world client that comes with the wanted version of
// everything is known to hold it.
func (s *stage) recognize() {
	st, _ := s.srv.Status("sg-1")
	for n, e := range s.c.entries {
		if sub := &s.c.subs[n.typ]; e.brought && sub.all && s.c.whole(n.typ) && sub.version == st.Types[n.typ].Wanted {
			e.brought, e.silent, e.told, e.owed = false, false, e.held, ""
		}
	}
}

func (s *stage) resume(r *rand.Rand, typ xds.Type, last *wire, lies bool) {
	old, sub := &last.subs[typ], &s.c.subs[typ]
	names := slices.Sorted(maps.Keys(old.names))
	if old.all && old.named {
		names = append(names, "*")
	}
	if s.dialect == xdstest.SotW {
		names = slices.Clone(old.wish)
	}
	if len(names) == 0 && !old.all {
		return // it has left everything of this type
	}
	initial := map[string]string{}
	for n, e := range last.entries {
		if n.typ != typ || e.held == gone {
			continue
		}
		now := s.c.entry(n)
		now.held, now.told = e.held, e.held
		initial[n.name] = last.versions[e.held]
		if lies && r.IntN(3) == 0 {
			s.p.stats["lies"]++
			initial[n.name], now.told = "a lie", "a lie"
		}
	}
	if s.dialect == xdstest.SotW {
		sub.version = old.version
		if lies {
			s.p.stats["lies"]++
			sub.version = "a lie"
		}
		for n, e := range s.c.entries {
			if n.typ == typ {
				e.told, e.brought = "another stream", true
			}
		}
		initial = nil
	} else if lies {
		if old.all {
			s.c.entry(name{typ, "phantom"}).held = "phantom"
		}
		initial["phantom"] = "1"
	}
	maps.Copy(s.c.versions, last.versions)
	s.c.ask(typ, names, nil, initial, "")
}
