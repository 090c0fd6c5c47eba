package xds

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func virtualHost(name string, domains ...string) *routev3.VirtualHost {
	return &routev3.VirtualHost{Name: name, Domains: domains, Routes: []*routev3.Route{{
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 200}},
	}}}
}

func tableOf(hosts ...*routev3.VirtualHost) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{Name: "table", VirtualHosts: hosts, MaxDirectResponseBodySizeBytes: wrapperspb.UInt32(9)}
}

func compiledTable(t *testing.T, rc *routev3.RouteConfiguration, last *compiled) *compiled {
	t.Helper()
	c, err := compile(Set{Routes: []*routev3.RouteConfiguration{rc}}, last)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Whatever tables follow each other, one that is compiled after another has the
// bytes and the version that it has alone, and Envoy reads from them what was
// published; only new virtual hosts are looked at.
func TestATableCompiledAfterAnotherIsTheTableCompiledAlone(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var last *compiled
	var hosts []*routev3.VirtualHost
	versions, serial := map[string]string{}, 0
	for range 500 {
		i := random.IntN(len(hosts) + 1)
		switch random.IntN(5) {
		case 0, 1:
			serial++
			hosts = slices.Insert(slices.Clone(hosts), i, virtualHost(fmt.Sprintf("h%d", serial), fmt.Sprintf("d%d", serial), "common-"+fmt.Sprint(serial)))
		case 2:
			if i < len(hosts) {
				hosts = slices.Delete(slices.Clone(hosts), i, i+1)
			}
		case 3:
			if i < len(hosts) {
				hosts = slices.Clone(hosts)
				hosts[i] = proto.CloneOf(hosts[i])
				hosts[i].Domains = append(hosts[i].Domains, fmt.Sprintf("%d.extra", len(hosts[i].Domains)))[:1+random.IntN(len(hosts[i].Domains))]
			}
		case 4: // equal content, another message
			hosts = slices.Clone(hosts)
			for i := range hosts {
				hosts[i] = proto.CloneOf(hosts[i])
			}
		}
		rc := tableOf(hosts...)
		got, want := compiledTable(t, rc, last).get(Routes, "table"), compiledTable(t, rc, nil).get(Routes, "table")
		value := got.wire.Resource.Value
		if got.version != want.version || !bytes.Equal(value, want.wire.Resource.Value) {
			t.Fatal("the bytes depend on what was there before")
		}
		read := new(routev3.RouteConfiguration)
		if err := proto.Unmarshal(value, read); err != nil || !proto.Equal(read, rc) {
			t.Fatalf("the bytes are not the table: %v (%v)", read, err)
		}
		if other, ok := versions[string(value)]; ok && other != got.version {
			t.Fatal("two versions of the same bytes")
		}
		versions[string(value)] = got.version
		last = compiledTable(t, rc, last)
	}
	distinct := map[string]bool{}
	for _, v := range versions {
		distinct[v] = true
	}
	if len(distinct) != len(versions) {
		t.Errorf("%d versions of %d contents", len(distinct), len(versions))
	}
}

func TestAnUnchangedVirtualHostIsNotLookedAtAgain(t *testing.T) {
	known := virtualHost("a", "a", "a/")
	first := compiledTable(t, tableOf(known), nil)
	known.Domains[0] = "b" // forbidden, and so not seen
	second := compiledTable(t, tableOf(known, virtualHost("c", "c")), first).get(Routes, "table")
	if !bytes.HasPrefix(second.wire.Resource.Value, first.get(Routes, "table").wire.Resource.Value) {
		t.Error("the host was marshalled again")
	}
}

// A table that Envoy would refuse never takes the place of a good one, also when
// most of it is known to be good.
func TestABadVirtualHostIsFoundAmongGoodOnes(t *testing.T) {
	good := []*routev3.VirtualHost{virtualHost("a", "a", "a/", "a/*"), virtualHost("b", "b", "b/"), virtualHost("none", "*")}
	last := compiledTable(t, tableOf(good...), nil)
	for want, bad := range map[string]*routev3.VirtualHost{
		`routes table: domain "b/" is in the virtual hosts b and c`:           virtualHost("c", "c", "b/"),
		`routes table: domain "b" is in the virtual hosts b and c`:            virtualHost("c", "B"),
		`routes table: domain "c" is in the virtual hosts c and c`:            virtualHost("c", "c", "c"),
		`routes table: domain "*" is in the virtual hosts none and c`:         virtualHost("c", "c", "*"),
		`routes table: virtual host a: defined twice`:                         virtualHost("a", "c"),
		`invalid VirtualHost.Domains: value must contain at least 1 item(s)`:  virtualHost("c"),
		`invalid VirtualHost.Domains[1]: value does not match regex pattern`:  virtualHost("c", "c", "c\n"),
		`invalid VirtualHost.Domains[0]: value does not match regex pattern`:  virtualHost("c", "c\r"),
		`invalid VirtualHost.Name: value length must be at least 1 runes`:     virtualHost("", "c"),
		`invalid VirtualHost.Routes[0]: embedded message failed validation`:   {Name: "c", Domains: []string{"c"}, Routes: []*routev3.Route{{}}},
		`routes table: refers to clusters "x", which the set does not have`:   {Name: "c", Domains: []string{"c"}, RequestMirrorPolicies: []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "x"}}},
		`routes table: refers to clusters "x/2", which the set does not have`: toCluster("c", "x/2"),
	} {
		for _, last := range []*compiled{nil, last} {
			_, err := compile(Set{Routes: []*routev3.RouteConfiguration{tableOf(append(slices.Clone(good), bad)...)}}, last)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		}
	}
	moved := slices.Clone(good)
	moved[0], moved[1] = virtualHost("a", "a", "a/", "a/*", "b"), virtualHost("b", "b/")
	compiledTable(t, tableOf(moved...), last) // a domain may change its host
}

func toCluster(name, cluster string) *routev3.VirtualHost {
	h := virtualHost(name, name)
	h.Routes[0].Action = &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}}
	return h
}
