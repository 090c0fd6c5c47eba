package translator_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

func TestEqualStatesGiveEqualBytes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, ".golden.yaml") {
			continue
		}
		s := readScene(t, file)
		first := static(t, s)
		// The order in which a State lists what is not the RIB has no meaning.
		slices.Reverse(s.Neighbours)
		slices.Reverse(s.Services)
		slices.Reverse(s.Aliases)
		slices.Reverse(s.Steering)
		if again := static(t, s); string(first) != string(again) {
			t.Errorf("%s: another run gives another result", file)
		}
	}
}

func TestHealthChangesEndpointsOnly(t *testing.T) {
	s := readScene(t, "testdata/figure2-sg-1.yaml")
	up := translate(t, s)
	s.Neighbours[0].Up = false
	down := translate(t, s)
	for name, table := range up.Routes {
		if !proto.Equal(table, down.Routes[name]) {
			t.Errorf("route table %s changed", name)
		}
	}
	for name, c := range up.Clusters {
		if !proto.Equal(c, down.Clusters[name]) {
			t.Errorf("cluster %s changed", name)
		}
	}
	var changed []string
	for name, e := range up.Endpoints {
		if !proto.Equal(e, down.Endpoints[name]) {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	want := []string{"dmsc/group/sr-1", "dmsc/group/sr-1+sr-2", "dmsc/group/sr-1~sr-2", "dmsc/group/sr-2~sr-1", "dmsc/neighbour/sr-1"}
	if !slices.Equal(changed, want) {
		t.Errorf("endpoints changed: %v, want %v (and never a probe's)", changed, want)
	}
}

func TestFaultsAreReportedTogether(t *testing.T) {
	s := parseScene(t, `
node: sg-1
addrs: {ingress: "0.0.0.0", fabric: "127.0.0.1:15901", probe: "127.0.0.1:15903"}
neighbours:
- {link: sr-1, data: "sr-1:15901"}
entries:
- {prefix: a/1, local: true}
- {prefix: b/1, via: ["sr-1#7"]}
services:
- {prefix: a/1, address: "pod:80"}
steering:
- {prefix: b/1, policy: p1, paths: [{path: sr-1 sg-4, weight: 1}]}
- {prefix: b/2, policy: p2, paths: [{path: sg-1 sr-1 sg-1, weight: 1}]}
- {prefix: b/3, policy: p3, paths: [{path: sg-1 sr-1, weight: 60}, {path: sg-1 sr-1 sg-2, weight: 60}]}
- {prefix: b/4, policy: p4, paths: [{path: sg-1, weight: 1}]}
- {prefix: b, policy: p5, paths: [{path: sg-1 sr-1, instance: c/1, weight: 1}]}
aliases:
- {host: "*.example", prefix: a/1}
`)
	_, err := translator.Translate(s)
	if err == nil {
		t.Fatal("accepted")
	}
	got := strings.Split(strings.TrimPrefix(err.Error(), "translate sg-1: "), "\n")
	slices.Sort(got)
	want := []string{
		`address of service a/1: address "pod:80" has the host name "pod": write an IP address`,
		`alias of a/1: "*.example" is not a host name (a-z 0-9 . _ -, no port)`,
		`data address of neighbour sr-1: address "sr-1:15901" has the host name "sr-1": write an IP address`,
		`group sr-1#7: link sr-1#7 is not among the neighbours`,
		`listener dmsc/ingress: address "0.0.0.0" is neither host:port nor unix:///path`,
		`steering of b by policy "p5": instance c/1 is not directly below it`,
		`steering of b/1 by policy "p1": path >sr-1>sg-4> does not start at sg-1`,
		`steering of b/2 by policy "p2": path >sg-1>sr-1>sg-1> names a node twice`,
		`steering of b/3 by policy "p3": weights add up to 120, at most 100 are allowed`,
		`steering of b/4 by policy "p4": a path has 1 nodes, 2 to 16 are allowed`,
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("missing: %s", w)
		}
	}
	for _, g := range slices.Compact(got) {
		if !slices.Contains(want, g) {
			t.Errorf("unexpected: %s", g)
		}
	}
}

// Whatever the state, the resources are valid, no two clusters share a name,
// and a name reaches the virtual host of its longest prefix.
func TestRandomStatesTranslateToValidResources(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		s := randomState(random)
		r, err := translator.Translate(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := xds.SetOf(r).Validate(); err != nil {
			t.Fatal(err)
		}
		again, err := translator.Translate(s)
		if err != nil || again.Generation != r.Generation {
			t.Fatalf("second run: generation %s, was %s (%v)", again.Generation, r.Generation, err)
		}
		checkNames(t, s, r)
		checkLongestPrefix(t, s, r)
	}
}

// Whatever states follow each other, a Translator makes what a fresh one would,
// and what does not change with a state is the message that it was.
func TestATranslatorThatRemembersMakesWhatAFreshOneWould(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var tr translator.Translator
	var last translator.Resources
	s, kept := randomState(random), 0
	for range 300 {
		s.Neighbours, s.Services = slices.Clone(s.Neighbours), slices.Clone(s.Services)
		nb := &s.Neighbours[random.IntN(len(s.Neighbours))]
		switch random.IntN(9) {
		case 0:
			s = randomState(random)
		case 1:
			nb.Up = !nb.Up
		case 2:
			nb.Class = dmsc.LinkClass(random.IntN(3))
		case 3:
			nb.Data = []string{"", "127.0.0.1:7", "nobody:7"}[random.IntN(3)] // the last is a fault
		case 4:
			if len(s.Services) > 0 {
				s.Services[random.IntN(len(s.Services))].Weight++
			}
		case 5:
			s.RIB, s.Retired = rib.NewRIB("n0"), s.RIB.Groups
		case 6:
			s.Steering, s.Retired = nil, nil
		case 7:
			s.Addrs.Ingress = []string{"", "127.0.0.1:1"}[random.IntN(2)]
		case 8:
			s.Node = []dmsc.NodeID{"n0", "n9"}[random.IntN(2)]
			s.Steering = nil // it would have to start there
		}
		r, err := tr.Translate(s)
		want, wantErr := translator.Translate(s)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if r.Generation != want.Generation {
			t.Fatalf("generation %s, want %s", r.Generation, want.Generation)
		}
		equalMessages(t, r.Listeners, want.Listeners)
		equalMessages(t, r.Routes, want.Routes)
		equalMessages(t, r.Clusters, want.Clusters)
		equalMessages(t, r.Endpoints, want.Endpoints)
		for name, c := range r.Clusters {
			if c == last.Clusters[name] {
				kept++
			}
		}
		if again, err := tr.Translate(s); err == nil && !maps.Equal(again.Clusters, r.Clusters) {
			t.Fatal("clusters of the same state are made anew")
		}
		last = r
	}
	if kept == 0 {
		t.Error("no cluster was ever kept")
	}
}

func equalMessages[M proto.Message](t *testing.T, got, want map[string]M) {
	t.Helper()
	if !maps.EqualFunc(got, want, func(a, b M) bool { return proto.Equal(a, b) }) {
		t.Fatalf("got %v\nwant %v", got, want)
	}
}

// checkNames counts: a name that two things share would leave one too few.
func checkNames(t *testing.T, s translator.State, r translator.Resources) {
	t.Helper()
	want := map[string]int{"dmsc/group/": len(s.RIB.Groups), "dmsc/probe/": len(s.Neighbours)}
	for e := range s.RIB.All() {
		if e.Local && e.Kind == rib.Announced {
			want["dmsc/local/"]++
		}
	}
	got := make(map[string]int)
	for name := range r.Clusters {
		if r.Endpoints[name] == nil || len(r.Endpoints) != len(r.Clusters) {
			t.Fatalf("cluster %s: clusters and endpoints are not one to one", name)
		}
		if strings.Contains(name, ".") {
			t.Errorf("cluster name %q has a dot", name)
		}
		for kind := range want {
			if strings.HasPrefix(name, kind) {
				got[kind]++
			}
		}
	}
	for kind, n := range want {
		if got[kind] != n {
			t.Fatalf("%d clusters %s*, want %d", got[kind], kind, n)
		}
	}
}

// checkLongestPrefix compares Envoy's host table rules (exact domain, then the
// longest wildcard) with a linear scan of the RIB.
func checkLongestPrefix(t *testing.T, s translator.State, r translator.Resources) {
	t.Helper()
	for e := range s.RIB.All() {
		for _, rest := range []string{"", "/", "/x", "0", "/x/y", "/x/"} {
			name := e.Prefix.String() + rest
			want := expectedCluster(s, strings.TrimSuffix(name, "/"))
			if got := firstCluster(r.Routes["dmsc/fabric"], name+"/."); got != want {
				t.Fatalf("%s goes to %q, want %q", name, got, want)
			}
		}
	}
}

func expectedCluster(s translator.State, key string) string {
	p := dmsc.MustParsePrefix(key)
	var best *rib.Entry
	for e := range s.RIB.All() {
		if e.Prefix == p && (e.Kind != rib.Announced || e.Prefix.Covers(p)) ||
			e.Kind == rib.Announced && e.Prefix.Covers(p) && (best == nil || best.Prefix != p && len(best.Prefix.String()) < len(e.Prefix.String())) {
			best = e
		}
	}
	switch {
	case best == nil:
		return ""
	case best.Local:
		return translator.LocalCluster(best.Prefix)
	}
	return translator.GroupCluster(best.Group)
}

func firstCluster(table *routev3.RouteConfiguration, key string) string {
	var best *routev3.VirtualHost
	longest := -1
	for _, h := range table.VirtualHosts {
		for _, domain := range h.Domains {
			stem, wildcard := strings.CutSuffix(domain, "*")
			switch {
			case domain == key:
				best, longest = h, len(key)+1
			case wildcard && strings.HasPrefix(key, stem) && len(stem) > longest && len(key) > len(stem):
				best, longest = h, len(stem)
			}
		}
	}
	for _, route := range best.Routes {
		if c := route.GetRoute().GetCluster(); c != "" {
			return c
		}
	}
	return ""
}

func randomState(r *rand.Rand) translator.State {
	s := translator.State{
		Node:  "n0",
		Addrs: translator.Addrs{Ingress: "127.0.0.1:1", Fabric: "127.0.0.1:2", Probe: "127.0.0.1:3"},
	}
	var entries []*rib.Entry
	var hops []rib.NextHop
	for i := range 1 + r.IntN(4) {
		for link := range 1 + r.IntN(2) {
			hop := rib.NextHop{LinkKey: linkstate.LinkKey{
				Remote: dmsc.NodeID(fmt.Sprintf("n%d", i+1)), ID: dmsc.LinkID(fmt.Sprint(link)),
			}, Weight: 1}
			hops = append(hops, hop)
			s.Neighbours = append(s.Neighbours, translator.Neighbour{
				NextHop: hop, Data: fmt.Sprintf("127.0.0.1:%d", 100+len(hops)),
				Class: dmsc.LinkClass(r.IntN(3)), Up: r.IntN(3) > 0,
			})
		}
	}
	groups := make(map[string]*rib.Group)
	seen := make(map[string]bool)
	for range r.IntN(30) {
		name := randomPrefix(r)
		if seen[name] {
			continue
		}
		seen[name] = true
		e := &rib.Entry{
			Prefix: dmsc.MustParsePrefix(name), Kind: rib.Kind(r.IntN(2)), Protocol: dmsc.Protocol(r.IntN(4)), ReplaySafe: r.IntN(2) == 0,
		}
		if r.IntN(3) == 0 && e.Kind == rib.Announced {
			e.Local = true
			for range r.IntN(3) {
				s.Services = append(s.Services, translator.Service{
					Prefix: e.Prefix, Address: fmt.Sprintf("127.0.0.1:%d", 1000+r.IntN(9000)), Protocol: e.Protocol,
					HealthPath: []string{"", "/healthz"}[r.IntN(2)], Weight: r.Uint32N(3),
				})
			}
		} else {
			e.Group = randomGroup(r, hops, groups)
		}
		if r.IntN(4) == 0 {
			s.Steering = append(s.Steering, translator.Steering{Prefix: e.Prefix, PolicyID: "p", Paths: []translator.WeightedPath{
				{Nodes: []dmsc.NodeID{"n0", "n1", "n9"}, Weight: r.Uint32N(50)},
				{Nodes: []dmsc.NodeID{"n0", dmsc.NodeID(fmt.Sprintf("n%d", 1+r.IntN(6)))}, Weight: r.Uint32N(51)},
			}})
		}
		if r.IntN(4) == 0 {
			s.Aliases = append(s.Aliases, translator.Alias{Host: fmt.Sprintf("h%d.example", len(s.Aliases)), Prefix: e.Prefix, From: translator.Pods})
		}
		entries = append(entries, e)
	}
	s.RIB = rib.NewRIB("n0", entries...)
	return s
}

// randomPrefix draws from an alphabet that would collide if "." were dropped
// or made one of the other characters.
func randomPrefix(r *rand.Rand) string {
	segments := make([]string, 1+r.IntN(3))
	for i := range segments {
		segments[i] = []string{"a", "a.", "a-", "a_", "a~", ".a", "a..", "b"}[r.IntN(8)]
	}
	return strings.Join(segments, "/")
}

func randomGroup(r *rand.Rand, hops []rib.NextHop, groups map[string]*rib.Group) *rib.Group {
	shuffled := slices.Clone(hops)
	r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	n := 1 + r.IntN(len(shuffled))
	g := &rib.Group{Primaries: shuffled[:n]}
	for i := range g.Primaries {
		g.Primaries[i].Weight = 1 + r.Uint32N(3)
	}
	if n < len(shuffled) && r.IntN(2) == 0 {
		g.Backup = shuffled[n : n+1]
	}
	slices.SortFunc(g.Primaries, func(x, y rib.NextHop) int { return strings.Compare(x.String(), y.String()) })
	g.Name = rib.GroupName(g.Primaries, g.Backup)
	if groups[g.Name] == nil {
		groups[g.Name] = g
	}
	return groups[g.Name]
}

// Every rule of design §5 that each cluster must keep.
func TestEveryClusterKeepsTheRules(t *testing.T) {
	r := translate(t, readScene(t, "testdata/figure2-sg-1.yaml"))
	for name, c := range r.Clusters {
		if c.GetType() != clusterv3.Cluster_EDS || !c.IgnoreHealthOnHostRemoval || c.ConnectTimeout == nil ||
			c.CommonLbConfig.UpdateMergeWindow.AsDuration() != 0 || c.CommonLbConfig.HealthyPanicThreshold.Value != 0 ||
			c.CircuitBreakers.Thresholds[0].MaxRetries.Value != 1000 {
			t.Errorf("cluster %s: %v", name, c)
		}
		if factor := r.Endpoints[name].GetPolicy().GetOverprovisioningFactor().GetValue(); factor != 100000 {
			t.Errorf("cluster %s: overprovisioning factor %d", name, factor)
		}
		if local := strings.HasPrefix(name, "dmsc/local/"); local != (len(c.HealthChecks) > 0) {
			t.Errorf("cluster %s: %d active health checks", name, len(c.HealthChecks))
		}
	}
}

// A request that the ingress let in just so must not be refused further on, for
// the headers it has got since.
func TestTheFabricTakesMoreHeadersThanTheIngress(t *testing.T) {
	r := translate(t, readScene(t, "testdata/figure2-sg-1.yaml"))
	for _, name := range []string{"dmsc/fabric", "dmsc/demote"} {
		m := new(hcmv3.HttpConnectionManager)
		if err := r.Listeners[name].FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(m); err != nil {
			t.Fatal(err)
		}
		// The ingress has Envoy's defaults of 100 and 60.
		if m.GetCommonHttpProtocolOptions().GetMaxHeadersCount().GetValue() <= 100 || m.GetMaxRequestHeadersKb().GetValue() <= 60 {
			t.Errorf("%s: %v, %v KiB", name, m.GetCommonHttpProtocolOptions(), m.GetMaxRequestHeadersKb())
		}
	}
}

// An ejected only host is an outage that lasts seconds longer than its cause.
func TestOnlyWayOutIsNeverEjected(t *testing.T) {
	for _, file := range []string{"testdata/figure2-sg-1.yaml", "testdata/figure2-sr-1.yaml", "testdata/ecmp.yaml", "testdata/parallel-links.yaml"} {
		r := translate(t, readScene(t, file))
		for name, c := range r.Clusters {
			if !strings.HasPrefix(name, "dmsc/group/") {
				continue
			}
			ways := 0
			for _, l := range r.Endpoints[name].GetEndpoints() {
				if l.GetLbEndpoints()[0].GetEndpoint().GetAddress().GetEnvoyInternalAddress() == nil {
					ways += len(l.GetLbEndpoints())
				}
			}
			if ejects := c.GetOutlierDetection() != nil; ejects != (ways > 1) {
				t.Errorf("%s: %s has %d endpoints and outlier detection: %v", file, name, ways, ejects)
			}
		}
	}
}

// Envoy keeps the first host of each address and drops the others, so that a
// link that is down would hide a living one to the same place.
func TestLinksToOneAddressAreOneHost(t *testing.T) {
	s := parseScene(t, `
node: sg-1
addrs: {ingress: "127.0.0.1:15900", fabric: "127.0.0.1:15901", probe: "127.0.0.1:15903"}
neighbours:
- {link: sr-1, data: "127.0.0.1:16001", down: true}
- {link: "sr-1#b", data: "127.0.0.1:16001"}
- {link: sr-2, data: "127.0.0.1:16011"}
entries:
- {prefix: a/1, via: [sr-1, "sr-1#b", sr-2]}
- {prefix: b/1, via: [sr-1], backup: "sr-1#b"}
`)
	r := translate(t, s)
	hosts := func(group string) string {
		var text []string
		for _, l := range r.Endpoints[group].Endpoints {
			for _, e := range l.LbEndpoints {
				text = append(text, fmt.Sprintf("%d %s %s %d", l.Priority, translator.AddressText(e.GetEndpoint().Address), e.HealthStatus, e.LoadBalancingWeight.GetValue()))
			}
		}
		return strings.Join(text, ", ")
	}
	for group, want := range map[string]string{
		"dmsc/group/sr-1+sr-1#b+sr-2": "0 127.0.0.1:16001 HEALTHY 2, 0 127.0.0.1:16011 HEALTHY 0, 1 dmsc/demote HEALTHY 0",
		"dmsc/group/sr-1~sr-1#b":      "0 127.0.0.1:16001 HEALTHY 0, 1 dmsc/demote HEALTHY 0",
	} {
		if got := hosts(group); got != want {
			t.Errorf("%s: hosts %s, want %s", group, got, want)
		}
	}
}
