package node

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/scsc"
)

var t0 = time.Unix(1_700_000_000, 0)

var errSick = errors.New("GET /healthz at 10.0.0.1:80: it answers 503")

// pod makes a session that announces prefixes at one address.
func pod(id uint64, name, address string, prefixes ...string) *session {
	s := &session{id: id, pod: name, lease: 30 * time.Second}
	for _, p := range prefixes {
		s.services = append(s.services, service{
			Prefix: linkstate.Prefix{Prefix: dmsc.MustParsePrefix(p)}, Address: address, HealthPath: "/healthz",
		})
	}
	return s
}

func (r *registry) grant(pod string, prefixes ...string) {
	for _, p := range prefixes {
		r.judge(pod, dmsc.MustParsePrefix(p), verdict{granted: true})
	}
}

// names are the prefixes a registry announces at a time.
func names(r *registry, now time.Time) []string {
	out := []string{}
	for _, p := range r.offer(now).prefixes {
		out = append(out, p.Prefix.String())
	}
	return out
}

func want(t *testing.T, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmp.AllowUnexported(dmsc.ServicePrefix{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// draft §4.2(2): "If the authentication is passed, perform the operation of
// sending service prefix LSA signaling".
func TestOnlyWhatTheSPAGrantedIsAnnounced(t *testing.T) {
	r := newRegistry()
	claims := r.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1", "b/1"))
	want(t, len(claims), 2)
	want(t, names(r, t0), []string{})
	r.grant("pod-1", "a/1")
	r.judge("pod-1", dmsc.MustParsePrefix("b/1"), verdict{code: "not_granted", reason: "no grant covers b/1", final: true})
	want(t, names(r, t0), []string{"a/1"})
	st := r.statuses(1, false, t0)
	want(t, []string{st[0].state.String(), st[1].state.String(), st[1].reason}, []string{"announced", "denied", "no grant covers b/1"})
}

func TestWithoutSPANewPrefixesWaitAndTheirPodIsToldWhy(t *testing.T) {
	r := newRegistry()
	r.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1"))
	st := r.statuses(1, true, t0)
	want(t, []string{st[0].state.String(), st[0].code}, []string{"pending", "spa_unavailable"})
	want(t, names(r, t0), []string{})
}

func TestAnEndedStreamLeavesItsPrefixesForTheLease(t *testing.T) {
	r := newRegistry()
	r.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1"))
	r.grant("pod-1", "a/1")
	r.closed(1, t0)
	want(t, r.deadline(t0), t0.Add(30*time.Second))
	r.tick(t0.Add(29 * time.Second))
	want(t, names(r, t0), []string{"a/1"})
	want(t, r.tick(t0.Add(30*time.Second)), []string{"pod-1"})
	want(t, names(r, t0), []string{})
}

func TestAPodThatComesBackSupersedesItsEndedStream(t *testing.T) {
	r := newRegistry()
	r.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1"))
	r.grant("pod-1", "a/1")
	r.closed(1, t0)
	r.announce(pod(2, "pod-1", "10.0.0.9:80", "a/1"))
	want(t, len(r.sessions), 1)
	want(t, r.offer(t0).instances[0].Address, "10.0.0.9:80")
	want(t, names(r, t0), []string{"a/1"})
}

func TestAWithdrawalTakesEffectAtOnce(t *testing.T) {
	r := newRegistry()
	r.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1"))
	r.grant("pod-1", "a/1")
	_, claims, ok := r.withdraw(1)
	want(t, ok && len(claims) == 0, true)
	want(t, names(r, t0), []string{})
}

func TestInstancesOfOnePrefixAreOneAnnouncementAndSeveralEndpoints(t *testing.T) {
	r := newRegistry()
	r.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1"))
	r.announce(pod(2, "pod-2", "10.0.0.2:80", "a/1"))
	r.grant("pod-1", "a/1")
	r.grant("pod-2", "a/1")
	want(t, names(r, t0), []string{"a/1"})
	want(t, r.offer(t0).prefixes[0].Weight, uint32(2))
	want(t, len(r.offer(t0).instances), 2)
}

func TestInstancesOfOnePrefixShareAProtocol(t *testing.T) {
	r := newRegistry()
	r.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1"))
	second := pod(2, "pod-2", "10.0.0.2:80", "a/1")
	second.services[0].Protocol = dmsc.TCP
	r.announce(second)
	want(t, r.statuses(2, false, t0)[0].code, "protocol_conflict")
}

func TestAPodMayAnnounceSixtyFourPrefixes(t *testing.T) {
	r := newRegistry()
	r.announce(pod(1, "pod-1", "10.0.0.1:80", many(maxPrefixesPerPod)...))
	second := pod(2, "pod-1", "10.0.0.1:80", "z/1")
	r.announce(second)
	want(t, r.statuses(2, false, t0)[0].code, "too_many")
	want(t, len(r.claims("pod-1")), maxPrefixesPerPod)
}

func many(n int) []string {
	var out []string
	for i := range n {
		out = append(out, "a/"+string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	return out
}

func TestAPrefixWithoutAHealthyInstanceIsWithdrawnAfterASecond(t *testing.T) {
	r := newRegistry()
	r.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1"))
	r.grant("pod-1", "a/1")
	a1 := dmsc.MustParsePrefix("a/1")
	r.detected(a1, "10.0.0.1:80", errSick, t0)
	want(t, r.deadline(t0), t0.Add(time.Second))
	want(t, names(r, t0.Add(999*time.Millisecond)), []string{"a/1"})
	want(t, names(r, t0.Add(time.Second)), []string{})
	r.detected(a1, "10.0.0.1:80", nil, t0.Add(2*time.Second))
	want(t, names(r, t0.Add(2*time.Second)), []string{"a/1"})
}

// What a pod is told of a prefix is what the others hear of it.
func TestAPodIsToldOfAFailingCheckWhenItsPrefixIsWithdrawnAndWhenItIsBack(t *testing.T) {
	n := &Node{registry: newRegistry(), log: slog.New(slog.DiscardHandler)}
	n.loop.listeners = map[uint64]*listener{1: {statuses: make(chan []prefixStatus, 1)}}
	a1 := dmsc.MustParsePrefix("a/1")
	hears := func(at time.Duration, told ...prefixStatus) {
		t.Helper()
		n.answer(t0.Add(at))
		var got []prefixStatus
		select {
		case got = <-n.loop.listeners[1].statuses:
		default:
		}
		if !slices.Equal(got, told) {
			t.Errorf("after %v the pod is told %+v, want %+v", at, got, told)
		}
	}
	unhealthy := func(why string) prefixStatus {
		return prefixStatus{prefix: "a/1", code: "unhealthy", reason: "its check fails, " + why + "; it is announced when that succeeds"}
	}
	n.registry.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1"))
	n.registry.grant("pod-1", "a/1")
	hears(0, prefixStatus{prefix: "a/1", state: announced})
	n.registry.detected(a1, "10.0.0.1:80", errSick, t0)
	hears(999 * time.Millisecond)
	want(t, n.registry.deadline(t0), t0.Add(time.Second)) // the loop wakes
	hears(time.Second, unhealthy(errSick.Error()))
	hears(2 * time.Second)
	n.registry.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1")) // a renewal
	hears(2 * time.Second)
	n.registry.detected(a1, "10.0.0.1:80", errors.New("it answers 404"), t0.Add(3*time.Second))
	hears(3*time.Second, unhealthy("it answers 404"))
	want(t, n.loop.instanceFaults, []InstanceFault{{Pod: "pod-1", Prefix: "a/1", Address: "10.0.0.1:80", Since: t0, Why: "it answers 404"}})
	n.registry.detected(a1, "10.0.0.1:80", nil, t0.Add(4*time.Second))
	hears(4*time.Second, prefixStatus{prefix: "a/1", state: announced})
	want(t, len(n.loop.instanceFaults), 0)
}

// A prefix that is still announced for a pod's other instance is not pending,
// and one of another pod's does not make this one's healthy.
func TestAnUnhealthyInstanceBesideAHealthyOne(t *testing.T) {
	r := newRegistry()
	first := pod(1, "pod-1", "10.0.0.1:80", "a/1")
	first.services = append(first.services, pod(1, "pod-1", "10.0.0.2:80", "a/1").services...)
	r.announce(first)
	r.announce(pod(2, "pod-2", "10.0.0.3:80", "a/1"))
	r.grant("pod-1", "a/1")
	r.grant("pod-2", "a/1")
	late := t0.Add(unhealthyGrace)
	told := func() (out []string) {
		for id := range uint64(2) {
			for _, st := range r.statuses(id+1, false, late) {
				out = append(out, st.state.String()+" "+st.code)
			}
		}
		return out
	}
	a1 := dmsc.MustParsePrefix("a/1")
	r.detected(a1, "10.0.0.1:80", errSick, t0)
	want(t, told(), []string{"announced ", "announced "})
	want(t, len(r.instanceFaults(late)), 1)
	r.detected(a1, "10.0.0.2:80", errSick, t0)
	want(t, told(), []string{"pending unhealthy", "announced "})
	want(t, names(r, late), []string{"a/1"})
	want(t, len(r.instanceFaults(late)), 2)
	want(t, len(r.instanceFaults(late.Add(-1))), 0)
}

func TestARestartCountsUpAndAnnouncesTheSameBeforeAnySPAAnswers(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	f, s, err := openState(dir, t0, log)
	if err != nil {
		t.Fatal(err)
	}
	want(t, s.Incarnation, uint64(t0.Unix())+1)
	r := newRegistry()
	r.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1", "b/1"))
	r.grant("pod-1", "a/1")
	if err := f.store(r.snapshot(s.Incarnation)); err != nil {
		t.Fatal(err)
	}
	f.db.Close()

	f, s, err = openState(dir, t0.Add(time.Minute), log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.db.Close()
	want(t, s.Incarnation, uint64(t0.Unix())+2)
	again := newRegistry()
	id := uint64(0)
	pods := again.restore(s, t0, func() uint64 { id++; return id })
	want(t, len(pods["pod-1"]), 2)
	want(t, names(again, t0), []string{"a/1"})
	want(t, again.offer(t0).instances, r.offer(t0).instances)
}

func TestPoliciesSurviveARestartForWhatIsLeftOfTheirTTL(t *testing.T) {
	dir := t.TempDir()
	f, s, err := openState(dir, t0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.Policies = scsc.PolicySet{Term: 1, Generation: 2, TTL: time.Minute, Policies: []scsc.Policy{{
		ID: "p-1.2/fast/sg-1/b/4", Prefix: dmsc.MustParsePrefix("b/4"), Ingress: "sg-1",
		Paths: []scsc.Path{{Nodes: []dmsc.NodeID{"sg-1", "sr-1", "sg-4"}, Weight: 100}},
	}}}
	s.PoliciesUntil = t0.Add(time.Minute)
	if err := f.store(s); err != nil {
		t.Fatal(err)
	}
	f.db.Close()
	f, again, err := openState(dir, t0.Add(time.Second), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer f.db.Close()
	want(t, again.Policies, s.Policies)
	want(t, again.PoliciesUntil.Equal(s.PoliciesUntil), true)
}

func TestABrokenStateFileIsSetAsideAndTheNodeStarts(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "node.db"), make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	f, s, err := openState(dir, t0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer f.db.Close()
	want(t, s.Incarnation, uint64(t0.Unix())+1)
	aside, _ := filepath.Glob(filepath.Join(dir, "*.broken-*"))
	want(t, len(aside), 1)
}

func TestAStateThatCannotBeReadIsSetAsideToo(t *testing.T) {
	dir := t.TempDir()
	f, _, err := openState(dir, t0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(stateBucket).Put(stateKey, []byte("{")) }); err != nil {
		t.Fatal(err)
	}
	f.db.Close()
	if f, _, err = openState(dir, t0, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	f.db.Close()
}

func TestASecondProcessOnOneStateFileIsToldSo(t *testing.T) {
	dir := t.TempDir()
	f, _, err := openState(dir, t0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer f.db.Close()
	_, _, err = openState(dir, t0, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Fatal("opened twice")
	}
}

// A pod whose detection path was wrong mends it by announcing another one, or
// none.
func TestAnInstanceAskedInAnotherWayIsNotUnhealthyAnyMore(t *testing.T) {
	r := newRegistry()
	first := pod(1, "pod-1", "10.0.0.1:80", "a/1")
	first.services[0].DetectPath = "/wrong"
	r.announce(first)
	r.grant("pod-1", "a/1")
	r.detected(dmsc.MustParsePrefix("a/1"), "10.0.0.1:80", errSick, t0)
	late := t0.Add(2 * unhealthyGrace)
	want(t, names(r, late), []string{})

	same := pod(1, "pod-1", "10.0.0.1:80", "a/1")
	same.services[0].DetectPath = "/wrong"
	r.announce(same)
	want(t, names(r, late), []string{})

	r.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1"))
	want(t, names(r, late), []string{"a/1"})
}

// A heartbeat of the SCSC prolongs policies; a restart must find them prolonged.
func TestARenewedPolicySetIsSavedWithItsNewEnd(t *testing.T) {
	n := &Node{log: slog.New(slog.DiscardHandler)}
	set := scsc.PolicySet{Term: 1, Generation: 1, TTL: time.Minute}
	policiesArrived{set}.apply(n, t0)
	want(t, n.loop.dirty, true)
	n.loop.dirty = false
	policiesArrived{scsc.PolicySet{Term: 1, TTL: time.Minute}}.apply(n, t0.Add(10*time.Second)) // older: ignored
	want(t, n.loop.dirty, false)
	policiesArrived{set}.apply(n, t0.Add(20*time.Second))
	want(t, n.loop.dirty, true)
	want(t, n.overlay.Until(), t0.Add(80*time.Second))
}

// Whoever opens and closes streams must not fill the registry, or the state
// file.
func TestAClosedSessionWithoutServicesIsForgotten(t *testing.T) {
	r := newRegistry()
	r.announce(pod(1, "pod-1", "10.0.0.1:80"))
	r.announce(pod(2, "pod-2", "10.0.0.1:80", "a/1"))
	r.closed(1, t0)
	r.closed(2, t0)
	want(t, len(r.sessions), 1)
	want(t, r.deadline(t0), t0.Add(30*time.Second))
}

// Of what is too many, the first prefixes by name count.
func TestWhatIsTooManyIsRefusedAndTheRestCounts(t *testing.T) {
	r := newRegistry()
	r.announce(pod(1, "pod-1", "10.0.0.1:80", many(maxPrefixesPerPod-1)...))
	r.announce(pod(2, "pod-1", "10.0.0.1:80", "z/1", "z/2"))
	var codes []string
	for _, s := range r.statuses(2, false, t0) {
		codes = append(codes, s.prefix+" "+s.code)
	}
	want(t, codes, []string{"z/1 authenticating", "z/2 too_many"})
}

// The SPA is always asked with what the pod has said last, also when a session
// ends that was not its newest.
func TestTheNewestTokenOfAPodIsKept(t *testing.T) {
	r := newRegistry()
	want(t, r.token("pod-1"), []byte(nil))
	first, second, other := pod(1, "pod-1", "10.0.0.1:80", "a/1"), pod(2, "pod-1", "10.0.0.1:80", "b/1"), pod(3, "pod-2", "10.0.0.2:80", "c/1")
	first.token, second.token, other.token = []byte("first"), []byte("second"), []byte("other")
	r.announce(first)
	r.announce(second)
	r.announce(other)
	want(t, r.token("pod-1"), []byte("second"))
	r.closed(1, t0)
	r.tick(t0.Add(time.Hour))
	want(t, r.token("pod-1"), []byte("second"))
	r.withdraw(2)
	want(t, r.token("pod-1"), []byte(nil))
}

// An answer that was on its way when the pod took its claim back must not allow
// a later claim before that is answered.
func TestAVerdictOnAClaimThatWasTakenBackIsForgotten(t *testing.T) {
	r := newRegistry()
	r.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1"))
	r.withdraw(1)
	want(t, r.judge("pod-1", dmsc.MustParsePrefix("a/1"), verdict{granted: true}), false)
	r.announce(pod(2, "pod-1", "10.0.0.1:80", "a/1"))
	want(t, names(r, t0), []string{})
	want(t, r.judge("pod-1", dmsc.MustParsePrefix("a/1"), verdict{granted: true}), true)
	want(t, r.judge("pod-1", dmsc.MustParsePrefix("a/1"), verdict{granted: true}), false) // nothing new
	want(t, names(r, t0), []string{"a/1"})
}

// A turn of the loop asks for the offer several times; it is made when something
// has changed, and then it is.
func TestTheOfferIsMadeAnewExactlyWhenItMayHaveChanged(t *testing.T) {
	r := newRegistry()
	last := r.offer(t0)
	change := func(what string, do func()) {
		t.Helper()
		do()
		if now := r.offer(t0); now == last {
			t.Errorf("after %s the offer is the old one", what)
		} else if last = now; r.offer(t0) != last {
			t.Errorf("after %s the offer is made twice", what)
		}
	}
	change("an announcement", func() { r.announce(pod(1, "pod-1", "10.0.0.1:80", "a/1", "b/1")) })
	change("a verdict", func() { r.grant("pod-1", "a/1") })
	change("a self-detection", func() { r.detected(dmsc.MustParsePrefix("a/1"), "10.0.0.1:80", errSick, t0) })
	if r.offer(t0.Add(unhealthyGrace-1)) != last {
		t.Error("the offer is made anew within the grace")
	}
	if o := r.offer(t0.Add(unhealthyGrace)); o == last || len(o.prefixes) != 0 {
		t.Errorf("after the grace it has %v", o.prefixes)
	}
	change("recovery", func() { r.detected(dmsc.MustParsePrefix("a/1"), "10.0.0.1:80", nil, t0) })
	change("the end of a stream", func() { r.closed(1, t0) })
	change("the end of a lease", func() { r.tick(t0.Add(time.Hour)) })
	change("another announcement", func() { r.announce(pod(2, "pod-1", "10.0.0.1:80", "a/1")) })
	change("a withdrawal", func() { r.withdraw(2) })
}
