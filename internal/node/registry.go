package node

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/measure"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/translator"
)

// Limits of what pods may announce at one gateway.
const (
	maxPrefixesPerPod     = 64
	maxPrefixesPerGateway = 4096
)

// unhealthyGrace is how long a prefix without a healthy instance stays
// announced; until then its requests are answered 503 no-healthy (design §5).
const unhealthyGrace = time.Second

// registry is what the pods of this gateway have announced (draft §5(1)). It
// is pure: the node's loop owns it and passes the time in.
//
// A session is one announcement stream. It survives its stream by the lease,
// so that a pod or this agent can come back without a gap, and is superseded
// by a newer session of the same pod that announces the same prefix.
type registry struct {
	sessions map[uint64]*session
	// verdicts of the SPA by holder and prefix; missing means: not answered yet.
	verdicts map[claim]verdict
	// current follows from all this; nil when it has to be made anew.
	current *offer
}

// offer is what the node makes of its pods' announcements. Immutable.
type offer struct {
	prefixes  []linkstate.Prefix   // to announce: granted, with an instance that was healthy within the grace
	instances []translator.Service // for our Envoy to deliver to
	targets   []measure.Target     // to be asked to detect themselves
	until     time.Time            // the next end of a grace, which changes it; zero for never
}

// offer returns what follows from the announcements: the very same one while
// nothing has changed, so that a turn of the loop does not cost what was
// announced at some time.
func (r *registry) offer(now time.Time) *offer {
	if o := r.current; o != nil && (o.until.IsZero() || now.Before(o.until)) {
		return o
	}
	granted := r.granted()
	o := &offer{prefixes: prefixesOf(granted, now)}
	for _, v := range granted {
		o.instances = append(o.instances, translator.Service{
			Prefix: v.Prefix.Prefix, Address: v.Address, Protocol: v.Protocol,
			HealthPath: v.HealthPath, Weight: v.Weight,
		})
		o.targets = append(o.targets, v.target())
		if t := v.unhealthySince.Add(unhealthyGrace); !v.unhealthySince.IsZero() && t.After(now) && (o.until.IsZero() || t.Before(o.until)) {
			o.until = t
		}
	}
	r.current = o
	return o
}

type claim struct {
	pod    string
	prefix dmsc.ServicePrefix
}

// verdict is the SPA's word on one claim.
type verdict struct {
	granted      bool
	code, reason string
	final        bool
}

type session struct {
	id       uint64
	pod      string
	token    []byte
	lease    time.Duration
	expires  time.Time      // zero while the stream is open
	services []service      // sorted by (prefix, address)
	refused  []prefixStatus // malformed ones, told to the pod and otherwise ignored
}

// service is one announced instance.
type service struct {
	linkstate.Prefix
	Address    string // host:port
	HealthPath string // "" = no HTTP check
	DetectPath string
	// unhealthySince is zero while the self-detection succeeds.
	unhealthySince time.Time
	unhealthyWhy   string
}

// prefixStatus is what a pod is told about one prefix.
type prefixStatus struct {
	prefix       string
	state        state
	code, reason string
	final        bool
}

// codeUnhealthy is that of a granted prefix none of whose instances is healthy.
const codeUnhealthy = "unhealthy"

type state uint8

const (
	pending state = iota
	announced
	denied
	withdrawn
)

func newRegistry() *registry {
	return &registry{sessions: map[uint64]*session{}, verdicts: map[claim]verdict{}}
}

// announce replaces what a session announced. It returns the pod's claims, to
// be sent to the SPA.
func (r *registry) announce(s *session) []dmsc.ServicePrefix {
	r.current = nil
	slices.SortFunc(s.services, func(a, b service) int {
		return cmp.Or(a.Prefix.Prefix.Compare(b.Prefix.Prefix), cmp.Compare(a.Address, b.Address))
	})
	// A renewal or a new stream does not make an instance healthy. One that is
	// asked in another way from now on is: by that way nothing is known of it.
	for _, old := range r.sessions {
		for _, w := range old.services {
			for i := range s.services {
				if v := &s.services[i]; v.target() == w.target() && v.unhealthySince.IsZero() {
					v.unhealthySince, v.unhealthyWhy = w.unhealthySince, w.unhealthyWhy
				}
			}
		}
	}
	r.sessions[s.id] = s
	for _, old := range r.ordered() {
		if old.id == s.id || old.pod != s.pod || old.expires.IsZero() {
			continue
		}
		old.services = slices.DeleteFunc(old.services, func(v service) bool { return s.announces(v.Prefix.Prefix) })
		if len(old.services) == 0 {
			delete(r.sessions, old.id)
		}
	}
	r.refuse(s)
	return r.claims(s.pod)
}

// refuse takes out of a new announcement what contradicts what is announced.
func (r *registry) refuse(s *session) {
	ofPod, ofGateway := map[dmsc.ServicePrefix]bool{}, map[dmsc.ServicePrefix]bool{}
	others := map[dmsc.ServicePrefix]*session{} // with the protocol that the prefix has
	for _, o := range r.ordered() {
		if o.id == s.id {
			continue
		}
		for _, w := range o.services {
			p := w.Prefix.Prefix
			ofGateway[p], others[p] = true, o
			if o.pod == s.pod {
				ofPod[p] = true
			}
		}
	}
	s.services = slices.DeleteFunc(s.services, func(v service) bool {
		p, code, reason := v.Prefix.Prefix, "", ""
		switch o := others[p]; {
		case o != nil && o.protocol(p) != v.Protocol:
			code = "protocol_conflict"
			reason = fmt.Sprintf("%s is announced as %s by pod %s; instances of one prefix share a protocol", p, o.protocol(p), o.pod)
		case !ofPod[p] && len(ofPod) >= maxPrefixesPerPod:
			code, reason = "too_many", fmt.Sprintf("pod %s announces more than %d prefixes", s.pod, maxPrefixesPerPod)
		case !ofGateway[p] && len(ofGateway) >= maxPrefixesPerGateway:
			code, reason = "too_many", fmt.Sprintf("this gateway has more than %d prefixes", maxPrefixesPerGateway)
		default:
			ofPod[p], ofGateway[p] = true, true
			return false
		}
		s.refused = append(s.refused, prefixStatus{prefix: p.String(), state: denied, code: code, reason: reason, final: true})
		return true
	})
}

// closed notes that a session's stream has ended: its lease starts, if there is
// anything to keep.
func (r *registry) closed(id uint64, now time.Time) {
	r.current = nil
	switch s := r.sessions[id]; {
	case s == nil:
	case len(s.services) == 0:
		delete(r.sessions, id)
	default:
		s.expires = now.Add(s.lease)
	}
}

// withdraw removes a session at once and returns the pod's remaining claims.
func (r *registry) withdraw(id uint64) (pod string, claims []dmsc.ServicePrefix, ok bool) {
	s := r.sessions[id]
	if s == nil {
		return "", nil, false
	}
	r.current = nil
	delete(r.sessions, id)
	return s.pod, r.claims(s.pod), true
}

// tick drops the sessions whose lease has run out and returns their pods.
func (r *registry) tick(now time.Time) []string {
	var gone []string
	for _, s := range r.ordered() {
		if !s.expires.IsZero() && !now.Before(s.expires) {
			r.current = nil
			delete(r.sessions, s.id)
			gone = append(gone, s.pod)
		}
	}
	return gone
}

// deadline is when tick or offer next has something to do, zero for never.
func (r *registry) deadline(now time.Time) time.Time {
	d := r.offer(now).until
	for _, s := range r.sessions {
		if t := s.expires; !t.IsZero() && (d.IsZero() || t.Before(d)) {
			d = t
		}
	}
	return d
}

// judge takes the SPA's verdict on a claim, unless the pod has taken it back
// meanwhile. It reports whether the claim is granted, or not, because of it.
func (r *registry) judge(pod string, prefix dmsc.ServicePrefix, v verdict) bool {
	c := claim{pod, prefix}
	claimed := false
	for _, s := range r.sessions {
		claimed = claimed || s.pod == pod && s.announces(prefix)
	}
	if !claimed {
		return false
	}
	changed := r.verdicts[c].granted != v.granted
	r.verdicts[c] = v
	r.current = nil
	return changed
}

// detected takes the result of a self-detection (draft §4.2(5)), nil of a
// healthy instance.
func (r *registry) detected(prefix dmsc.ServicePrefix, address string, failure error, now time.Time) {
	r.current = nil
	for _, s := range r.sessions {
		for i := range s.services {
			v := &s.services[i]
			switch {
			case v.Prefix.Prefix != prefix || v.Address != address:
			case failure == nil:
				v.unhealthySince, v.unhealthyWhy = time.Time{}, ""
			default:
				if v.unhealthySince.IsZero() {
					v.unhealthySince = now
				}
				v.unhealthyWhy = failure.Error()
			}
		}
	}
}

// claims are the prefixes a pod asks for, sorted; verdicts on others are
// forgotten.
func (r *registry) claims(pod string) []dmsc.ServicePrefix {
	r.current = nil
	set := map[dmsc.ServicePrefix]bool{}
	for _, s := range r.sessions {
		if s.pod == pod {
			for _, v := range s.services {
				set[v.Prefix.Prefix] = true
			}
		}
	}
	maps.DeleteFunc(r.verdicts, func(c claim, _ verdict) bool { return c.pod == pod && !set[c.prefix] })
	return slices.SortedFunc(maps.Keys(set), dmsc.ServicePrefix.Compare)
}

// token is the newest that a pod has sent, nil for none.
func (r *registry) token(pod string) (token []byte) {
	for _, s := range r.ordered() {
		if s.pod == pod && len(s.token) > 0 {
			token = s.token
		}
	}
	return token
}

// granted are the sessions' services that the SPA has approved, sorted by
// (prefix, address); the same instance counts once.
func (r *registry) granted() []service {
	var out []service
	for _, s := range r.ordered() {
		for _, v := range s.services {
			if r.verdicts[claim{s.pod, v.Prefix.Prefix}].granted {
				out = append(out, v)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b service) int {
		return cmp.Or(a.Prefix.Prefix.Compare(b.Prefix.Prefix), cmp.Compare(a.Address, b.Address))
	})
	return slices.CompactFunc(out, func(a, b service) bool {
		return a.Prefix.Prefix == b.Prefix.Prefix && a.Address == b.Address
	})
}

// prefixesOf merges the instances of each prefix into one announcement.
func prefixesOf(granted []service, now time.Time) []linkstate.Prefix {
	var out []linkstate.Prefix
	for _, v := range granted {
		if v.unhealthy(now) {
			continue
		}
		p := v.Prefix
		p.Weight = max(p.Weight, 1)
		if n := len(out) - 1; n >= 0 && out[n].Prefix == p.Prefix {
			// Several instances are one announcement: the best cost, the summed share.
			out[n].Metric = min(out[n].Metric, p.Metric)
			out[n].Preference = max(out[n].Preference, p.Preference)
			out[n].Weight += p.Weight
			out[n].ReplaySafe = out[n].ReplaySafe && p.ReplaySafe
			continue
		}
		out = append(out, p)
	}
	return out
}

// statuses tells a session where its prefixes stand. One with several instances
// is announced as long as one of them is.
func (r *registry) statuses(id uint64, spaAway bool, now time.Time) []prefixStatus {
	s := r.sessions[id]
	if s == nil {
		return nil
	}
	out := slices.Clone(s.refused)
	for _, v := range s.services {
		st := prefixStatus{prefix: v.Prefix.Prefix.String()}
		verdict, answered := r.verdicts[claim{s.pod, v.Prefix.Prefix}]
		switch {
		case verdict.granted && v.unhealthy(now) && !s.healthy(v.Prefix.Prefix, now):
			st.code, st.reason = codeUnhealthy, "its check fails, "+v.unhealthyWhy+"; it is announced when that succeeds"
		case verdict.granted:
			st.state = announced
		case answered:
			st.state, st.code, st.reason, st.final = denied, verdict.code, verdict.reason, verdict.final
		case spaAway:
			st.code, st.reason = "spa_unavailable", "no SPA answers; the prefix waits and is advertised when one allows it"
		default:
			st.code, st.reason = "authenticating", "the SPA has been asked"
		}
		out = append(out, st)
	}
	slices.SortStableFunc(out, func(a, b prefixStatus) int { return cmp.Compare(a.prefix, b.prefix) })
	return slices.CompactFunc(out, func(a, b prefixStatus) bool {
		return a.prefix == b.prefix && a.state == b.state && a.code == b.code
	})
}

// ordered returns the sessions by id, oldest first.
func (r *registry) ordered() []*session {
	return slices.SortedFunc(maps.Values(r.sessions), func(a, b *session) int { return cmp.Compare(a.id, b.id) })
}

// target is how the instance is asked to detect itself.
func (v service) target() measure.Target {
	return measure.Target{Prefix: v.Prefix.Prefix, Address: v.Address, Protocol: v.Protocol, HealthPath: v.DetectPath}
}

// protocol is that of a prefix which the session announces.
func (s *session) protocol(p dmsc.ServicePrefix) dmsc.Protocol {
	i := slices.IndexFunc(s.services, func(v service) bool { return v.Prefix.Prefix == p })
	return s.services[i].Protocol
}

func (s *session) announces(p dmsc.ServicePrefix) bool {
	return slices.ContainsFunc(s.services, func(v service) bool { return v.Prefix.Prefix == p })
}

func (s state) String() string {
	return [...]string{"pending", "announced", "denied", "withdrawn"}[s]
}
