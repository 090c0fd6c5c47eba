package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// BenchmarkPublication is what the death of a link costs a router with three
// neighbours in a network of eight, from the RIB to what its Envoy is sent.
func BenchmarkPublication(b *testing.B) {
	var states []translator.State
	for turn := range 2 {
		s := translator.State{Node: "r1", Addrs: translator.Addrs{Fabric: "127.0.0.1:2", Probe: "127.0.0.1:3"}}
		var groups []*rib.Group
		for i := range 3 {
			hop := rib.NextHop{LinkKey: linkstate.LinkKey{Remote: dmsc.NodeID(fmt.Sprintf("r%d", i+2)), ID: "0"}, Weight: 1}
			s.Neighbours = append(s.Neighbours, translator.Neighbour{NextHop: hop, Data: fmt.Sprintf("127.0.0.1:%d", 100+i), Up: turn == 0 || i > 0})
			g := &rib.Group{Primaries: []rib.NextHop{hop}}
			g.Name = rib.GroupName(g.Primaries, nil)
			groups = append(groups, g)
		}
		var entries []*rib.Entry
		for i := range 7 - turn {
			p := dmsc.MustParsePrefix(fmt.Sprintf("dmsc/node/r%d", i+2))
			entries = append(entries, &rib.Entry{Prefix: p, Kind: rib.Node, Group: groups[max(turn, i%3)]})
		}
		entries = append(entries, &rib.Entry{Prefix: dmsc.MustParsePrefix("a/7"), Group: groups[turn]})
		entries = append(entries, &rib.Entry{Prefix: dmsc.MustParsePrefix("a/8"), Group: groups[2]})
		s.RIB = rib.NewRIB("r1", entries...)
		if turn == 1 {
			s.Retired = groups[:1]
		}
		states = append(states, s)
	}
	var tr translator.Translator
	srv := xds.New(xds.Config{})
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		r, err := tr.Translate(states[i%2])
		if err != nil {
			b.Fatal(err)
		}
		if _, err := srv.Publish("r1", xds.SetOf(r)); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkPin is what it costs to pin a gateway with this many prefixes, a tenth
// of them of its own pods: hold-ms is for how long the loop stands still, write-ms
// and restore-ms what the file costs beside it and at the next start.
func BenchmarkPin(b *testing.B) {
	for _, prefixes := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("prefixes=%d", prefixes), func(b *testing.B) {
			hop := rib.NextHop{LinkKey: linkstate.LinkKey{Remote: "r2", ID: "0"}, Weight: 1}
			g := &rib.Group{Name: rib.GroupName([]rib.NextHop{hop}, nil), Primaries: []rib.NextHop{hop}}
			entries := make([]*rib.Entry, prefixes)
			about := &needs{groups: []*rib.Group{g}}
			o := &offer{}
			for i := range entries {
				prefix := dmsc.MustParsePrefix(fmt.Sprintf("team-%d/%d", i%100, i))
				entries[i] = &rib.Entry{Prefix: prefix, Group: g}
				if i%10 == 0 {
					about.delivers = append(about.delivers, delivery{Prefix: prefix})
					o.prefixes = append(o.prefixes, linkstate.Prefix{Prefix: prefix})
				}
			}
			slices.SortFunc(about.delivers, func(a, b delivery) int { return a.Prefix.Compare(b.Prefix) })
			r, err := translator.Translate(translator.State{
				Node: "r1", Addrs: translator.Addrs{Ingress: "127.0.0.1:1", Fabric: "127.0.0.1:2", Probe: "127.0.0.1:3"},
				Neighbours: []translator.Neighbour{{NextHop: hop, Data: "127.0.0.1:100", Up: true}}, RIB: rib.NewRIB("r1", entries...),
			})
			if err != nil {
				b.Fatal(err)
			}
			set := xds.SetOf(r)
			set.About = about
			cfg := &config.Node{Node: "r1", StateDir: b.TempDir()}
			srv := xds.New(xds.Config{})
			version, err := srv.Publish("r1", set)
			if err != nil {
				b.Fatal(err)
			}
			var hold, write, restore time.Duration
			for b.Loop() {
				begun := time.Now()
				if _, err := srv.Rollback("r1", version); err != nil {
					b.Fatal(err)
				}
				p, _ := srv.Pin("r1")
				under := &pin{version: p.Version, needs: about}
				if got := under.split(o); len(got.withheld) > 0 {
					b.Fatalf("%d are withheld", len(got.withheld))
				}
				hold += time.Since(begun)
				begun = time.Now()
				if err := writePin(cfg, under, p); err != nil {
					b.Fatal(err)
				}
				write += time.Since(begun)
				begun = time.Now()
				_, back, err := readPin(cfg)
				if err == nil {
					err = xds.New(xds.Config{}).Restore("r1", back)
				}
				if err != nil {
					b.Fatal(err)
				}
				restore += time.Since(begun)
			}
			info, err := os.Stat(filepath.Join(cfg.StateDir, pinFile))
			if err != nil {
				b.Fatal(err)
			}
			for name, took := range map[string]time.Duration{"hold": hold, "write": write, "restore": restore} {
				b.ReportMetric(float64(took.Microseconds())/1000/float64(b.N), name+"-ms")
			}
			b.ReportMetric(float64(info.Size())/1024, "file-KiB")
		})
	}
}
