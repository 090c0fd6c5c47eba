package xds_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// model behaves as Envoy 1.40 does where it matters for order: a cluster is
// usable once it is warm, warming ends with an assignment that comes after the
// cluster, clusters are acknowledged when all are warm, and bad ones are
// refused while the rest of the response is taken.
type model struct {
	*xdstest.Client
	t               *testing.T
	active, warming map[string]string // cluster → version
	asked           map[string]bool   // endpoints
	unanswered      []*xdstest.Response
	bad             map[string][]string // nonce → refused clusters
	routedTo        string
	refused         map[string]bool // clusters that were, as they are wanted now
}

func (m *model) take(r *xdstest.Response) {
	m.t.Helper()
	switch r.Type {
	case xds.Clusters:
		for _, res := range r.GetResources() {
			c := &clusterv3.Cluster{}
			if err := res.GetResource().UnmarshalTo(c); err != nil {
				m.t.Fatal(err)
			}
			if badCluster(c) {
				m.bad[r.GetNonce()] = append(m.bad[r.GetNonce()], res.GetName())
				if m.refused[res.GetName()] {
					m.t.Fatalf("%s was sent again as it was refused", res.GetName())
				}
				m.refused[res.GetName()] = true
				continue
			}
			m.warming[res.GetName()] = res.GetVersion()
			if !m.asked[res.GetName()] {
				m.asked[res.GetName()] = true
				m.Subscribe(xds.Endpoints, res.GetName())
			}
		}
		for _, name := range r.GetRemovedResources() {
			if name == m.routedTo {
				m.t.Fatalf("%s removes the cluster that is routed to", r)
			}
			delete(m.active, name)
			delete(m.warming, name)
			if m.asked[name] {
				delete(m.asked, name)
				m.Unsubscribe(xds.Endpoints, name)
			}
		}
		m.unanswered = append(m.unanswered, r)
	case xds.Endpoints:
		for _, name := range r.Names() {
			if version, ok := m.warming[name]; ok {
				m.active[name] = version
				delete(m.warming, name)
			}
		}
		m.Ack(r)
	case xds.Routes:
		rc := &routev3.RouteConfiguration{}
		if err := r.GetResources()[0].GetResource().UnmarshalTo(rc); err != nil {
			m.t.Fatal(err)
		}
		to := rc.GetVirtualHosts()[0].GetRoutes()[0].GetRoute().GetCluster()
		if m.active[to] == "" {
			m.t.Fatalf("routed to %s, which is not there: active %v, warming %v", to, m.active, m.warming)
		}
		m.routedTo = to
		m.Ack(r)
	default:
		m.Ack(r)
	}
	if len(m.warming) == 0 {
		for _, r := range m.unanswered {
			if bad := m.bad[r.GetNonce()]; bad != nil {
				m.Nack(r, "Error adding/updating cluster(s) "+strings.Join(bad, ": no, ")+": no")
			} else {
				m.Ack(r)
			}
		}
		m.unanswered = nil
	}
}

func badCluster(c *clusterv3.Cluster) bool { return c.GetConnectTimeout().GetNanos() == 9e6 }

// TestChurn publishes random sets to a client that answers at random moments.
// No route may ever point to a cluster that is not warm, nothing in use may be
// removed, nothing refused may come twice, and at the end the client runs the
// last set, without the clock's help.
func TestChurn(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i := range uint64(200) {
		synctest.Test(t, func(t *testing.T) { churn(t, rand.New(rand.NewPCG(seed, i))) })
		if t.Failed() {
			t.Fatalf("seed %d, round %d", seed, i)
		}
	}
}

func churn(t *testing.T, r *rand.Rand) {
	f := serve(t, xds.Config{GateTimeout: 24 * time.Hour})
	m := &model{
		Client: xdstest.Dial(t, xdstest.Serve(t, f.Server), "sg-1"), t: t,
		active: map[string]string{}, warming: map[string]string{}, asked: map[string]bool{},
		bad: map[string][]string{}, refused: map[string]bool{},
	}
	m.Subscribe(xds.Clusters)
	m.Subscribe(xds.Listeners)
	m.Subscribe(xds.Routes, "table")
	before := map[string]*clusterv3.Cluster{}
	publish := func(set xds.Set) (version string) {
		version = f.publish("sg-1", set)
		now := map[string]*clusterv3.Cluster{}
		for _, c := range set.Clusters {
			now[c.GetName()] = c
		}
		maps.DeleteFunc(m.refused, func(name string, _ bool) bool { return !proto.Equal(before[name], now[name]) })
		before = now
		return version
	}
	for range 40 {
		if r.IntN(2) == 0 {
			publish(randomSet(r, 10))
		}
		synctest.Wait()
		for range r.IntN(4) {
			if resp := m.TryRecv(); resp != nil {
				m.take(resp)
			}
		}
	}
	last := randomSet(r, 9) // nothing bad in it
	version := publish(last)
	for {
		synctest.Wait()
		resp := m.TryRecv()
		if resp == nil {
			break
		}
		m.take(resp)
	}
	st := f.status("sg-1")
	if !st.Converged || st.Acked != version {
		t.Fatalf("not converged: %+v\n%v", st, m.Log)
	}
	var want []string
	for _, c := range last.Clusters {
		want = append(want, c.GetName())
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(m.active)); !slices.Equal(got, want) {
		t.Fatalf("active %v, want %v", got, want)
	}
	if to := last.Routes[0].GetVirtualHosts()[0].GetRoutes()[0].GetRoute().GetCluster(); m.routedTo != to {
		t.Fatalf("routed to %s, want %s", m.routedTo, to)
	}
}

// randomSet has one to five clusters in revisions below revs; 9 is refused.
func randomSet(r *rand.Rand, revs int) xds.Set {
	all := names("c", 6)
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	set := simple(all[:1+r.IntN(5)]...)
	for i, c := range set.Clusters {
		set.Clusters[i] = cluster(c.GetName(), r.IntN(revs))
		if r.IntN(3) == 0 {
			set.Endpoints[i] = endpoints(c.GetName(), 8080+r.IntN(4))
		}
	}
	return set
}
