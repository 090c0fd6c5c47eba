package translator_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
)

// constant are clusters and virtual hosts that every node has, whatever its state.
var constant = []string{"dmsc/demote", "dmsc/hello", "dmsc/again", "dmsc/none", "dmsc/no-prefix", "dmsc/probe", "dmsc/path/once", "dmsc/path/safe", "dmsc/path/tcp"}

// Whatever Envoy refuses, somebody can be told what it came of.
func TestEveryResourceKnowsItsOrigin(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, file := range files {
		if strings.Contains(filepath.Base(file), ".golden.") {
			continue
		}
		s := readScene(t, file)
		r, err := translator.Translate(s)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		known := func(kind, name, words string) {
			checked++
			about := name
			if words != "" {
				about = words
			}
			if origins, _ := s.Origins(kind, name, words); len(origins) == 0 && !slices.Contains(constant, about) {
				t.Errorf("%s: %s %s has no origin", file, kind, about)
			}
		}
		for name := range r.Clusters {
			known("clusters", name, "")
			known("endpoints", name, "")
		}
		for name := range r.Listeners {
			if name != "dmsc/demote" {
				known("listeners", name, "")
			}
		}
		for name, table := range r.Routes {
			for _, h := range table.VirtualHosts {
				known("routes", name, h.Name)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d resources were looked at: this test is blind", checked)
	}
}

func TestOriginsInWords(t *testing.T) {
	s := parseScene(t, `
node: sg-1
addrs: {ingress: "127.0.0.1:15900", fabric: "127.0.0.1:15901", probe: "unix:///probe"}
neighbours:
  - {link: sr-1, data: "127.0.0.1:15911"}
  - {link: "sr-1#2", data: "127.0.0.1:15912"}
  - {link: sr-2, data: "127.0.0.1:15921"}
entries:
  - {prefix: a/1, via: [sr-1], backup: sr-2}
  - {prefix: a/2, via: [sr-1], backup: sr-2, safe: true}
  - {prefix: b.c/1, local: true}
services:
  - {prefix: b.c/1, address: "10.0.0.1:8080"}
steering:
  - {prefix: a/1, policy: p-7.1, paths: [{path: sg-1 sr-2 sg-4, weight: 100}]}
aliases:
  - {host: shop.example, prefix: a/1}
`)
	for _, c := range []struct{ kind, name, words, want string }{
		{"clusters", "dmsc/group/sr-1~sr-2", "no good", "link sr-1 (127.0.0.1:15911); link sr-2 (127.0.0.1:15921); prefix a/1; prefix a/2"},
		{"endpoints", "dmsc/neighbour/sr-1", "", "link sr-1 (127.0.0.1:15911); link sr-1#2 (127.0.0.1:15912)"},
		{"clusters", "dmsc/probe/sr-1#2", "", "link sr-1#2 (127.0.0.1:15912)"},
		{"clusters", "dmsc/local/b!c/1", "", "prefix b.c/1 (10.0.0.1:8080)"},
		{"clusters", "dmsc/demote", "", ""},
		{"listeners", "dmsc/fabric", "cannot bind '127.0.0.1:15901': Address already in use", "setting envoy.fabric (127.0.0.1:15901)"},
		{"routes", "dmsc/ingress", "Duplicate entry of domain a/2", "prefix a/2"},
		{"routes", "dmsc/ingress", `virtual host "dmsc/policy/a/1": no`, "policy p-7.1 for a/1; prefix a/1"},
		{"routes", "dmsc/ingress", "dmsc/alias/shop!example.", "alias shop.example of a/1"},
		{"routes", "dmsc/ingress", "dmsc/group/sr-1~sr-2/safe", "link sr-1 (127.0.0.1:15911); link sr-2 (127.0.0.1:15921); prefix a/2"},
		{"routes", "dmsc/ingress", "a route of dmsc/ingress is bad", ""},
	} {
		origins, others := s.Origins(c.kind, c.name, c.words)
		var got []string
		for _, o := range origins {
			got = append(got, o.String())
		}
		if strings.Join(got, "; ") != c.want || others != 0 {
			t.Errorf("%s %s %q comes of\n  %s\nwant\n  %s", c.kind, c.name, c.words, strings.Join(got, "; "), c.want)
		}
	}
}

// A cluster that ten thousand prefixes share is told in a few words.
func TestOriginsAreBounded(t *testing.T) {
	group := &rib.Group{Name: "sr-1", Primaries: []rib.NextHop{{LinkKey: linkstate.LinkKey{Remote: "sr-1", ID: "0"}}}}
	var entries []*rib.Entry
	for i := range 10_000 {
		entries = append(entries, &rib.Entry{Prefix: dmsc.MustParsePrefix(fmt.Sprintf("p/%d", i)), Egress: []dmsc.NodeID{"sg-2"}, Group: group})
	}
	origins, others := translator.State{Node: "sg-1", RIB: rib.NewRIB("sg-1", entries...)}.Origins("clusters", translator.GroupCluster(group), "")
	if len(origins) != translator.MaxOrigins || others != 10_000-translator.MaxOrigins {
		t.Errorf("%d origins and %d others", len(origins), others)
	}
}
