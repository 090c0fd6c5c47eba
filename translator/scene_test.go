package translator_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// scene is a State as testdata/*.yaml writes it down. A next hop is
// "node", "node#link" or, with a weight, "node#link*3".
type scene struct {
	Node       dmsc.NodeID
	Addrs      translator.Addrs
	Neighbours []struct {
		Link  string
		Data  string
		Class dmsc.LinkClass
		Down  bool
	}
	Entries []struct {
		Prefix    string
		Kind      string // announced (default), function, node
		Via       []string
		Backup    string
		Local     bool
		Protocol  dmsc.Protocol
		Safe      bool
		Instances []string
	}
	Services []struct {
		Prefix   string
		Address  string
		Protocol dmsc.Protocol
		Health   string
		Weight   uint32
	}
	Steering []struct {
		Prefix string
		Policy string
		Paths  []struct {
			Path     string // "sg-1 sr-1 sg-4"
			Instance string
			Weight   uint32
		}
	}
	Aliases []struct {
		Host, Path, Prefix string
		Strip              bool
		From               string // pods (default), outside, both
	}
	Strict    bool
	Outside   translator.OutsideListener
	Externals []struct {
		Name, Host string
		Port       uint16
		Protocol   dmsc.Protocol
		TLS, CA    string
		Endpoints  []string
		Timeout    time.Duration
		Retries    uint32
	}
	AccessLog translator.AccessLog `yaml:"accessLog"`
	PodLimits translator.PodLimits `yaml:"podLimits"`
}

func readScene(t *testing.T, file string) translator.State {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return parseScene(t, string(text))
}

func parseScene(t *testing.T, text string) translator.State {
	t.Helper()
	var in scene
	if err := yaml.UnmarshalWithOptions([]byte(text), &in, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	s := translator.State{Node: in.Node, Addrs: in.Addrs, Strict: in.Strict, AccessLog: in.AccessLog, PodLimits: in.PodLimits}
	for _, n := range in.Neighbours {
		s.Neighbours = append(s.Neighbours, translator.Neighbour{
			NextHop: nextHop(t, n.Link), Data: n.Data, Class: n.Class, Up: !n.Down,
		})
	}
	kinds := map[string]rib.Kind{"": rib.Announced, "announced": rib.Announced, "function": rib.Function, "node": rib.Node}
	groups := make(map[string]*rib.Group)
	var entries []*rib.Entry
	for _, e := range in.Entries {
		kind, ok := kinds[e.Kind]
		if !ok {
			t.Fatalf("kind %q", e.Kind)
		}
		entry := &rib.Entry{
			Prefix: dmsc.MustParsePrefix(e.Prefix), Kind: kind, Local: e.Local, Protocol: e.Protocol, ReplaySafe: e.Safe,
		}
		for _, i := range e.Instances {
			entry.Instances = append(entry.Instances, dmsc.MustParsePrefix(i))
		}
		if !e.Local {
			entry.Group = group(t, groups, e.Via, e.Backup)
		}
		entries = append(entries, entry)
	}
	s.RIB = rib.NewRIB(in.Node, entries...)
	for _, service := range in.Services {
		s.Services = append(s.Services, translator.Service{
			Prefix: dmsc.MustParsePrefix(service.Prefix), Address: service.Address, Protocol: service.Protocol,
			HealthPath: service.Health, Weight: service.Weight,
		})
	}
	for _, p := range in.Steering {
		steering := translator.Steering{Prefix: dmsc.MustParsePrefix(p.Prefix), PolicyID: p.Policy}
		for _, path := range p.Paths {
			w := translator.WeightedPath{Weight: path.Weight}
			for n := range strings.FieldsSeq(path.Path) {
				w.Nodes = append(w.Nodes, dmsc.NodeID(n))
			}
			if path.Instance != "" {
				w.Instance = dmsc.MustParsePrefix(path.Instance)
			}
			steering.Paths = append(steering.Paths, w)
		}
		s.Steering = append(s.Steering, steering)
	}
	for _, a := range in.Aliases {
		from, ok := map[string]translator.Side{"": translator.Pods, "pods": translator.Pods, "outside": translator.Outside, "both": translator.Pods | translator.Outside}[a.From]
		if !ok {
			t.Fatalf("alias from %q", a.From)
		}
		s.Aliases = append(s.Aliases, translator.Alias{Host: a.Host, Path: a.Path, Prefix: dmsc.MustParsePrefix(a.Prefix), StripPath: a.Strip, From: from})
	}
	s.Outside = in.Outside
	for _, e := range in.Externals {
		s.Externals = append(s.Externals, translator.External{
			Name: e.Name, Host: e.Host, Port: e.Port, Protocol: e.Protocol, ServerName: e.TLS, CA: e.CA,
			Endpoints: e.Endpoints, Timeout: e.Timeout, Retries: e.Retries,
		})
	}
	return s
}

func group(t *testing.T, groups map[string]*rib.Group, via []string, backup string) *rib.Group {
	t.Helper()
	g := new(rib.Group)
	for _, hop := range via {
		g.Primaries = append(g.Primaries, nextHop(t, hop))
	}
	if backup != "" {
		g.Backup = []rib.NextHop{nextHop(t, backup)}
	}
	if len(via) == 0 {
		t.Fatal("an entry is neither local nor has it a next hop")
	}
	g.Name = rib.GroupName(g.Primaries, g.Backup)
	if groups[g.Name] == nil {
		groups[g.Name] = g
	}
	return groups[g.Name]
}

func nextHop(t *testing.T, text string) rib.NextHop {
	t.Helper()
	link, weight, weighted := strings.Cut(text, "*")
	node, id, named := strings.Cut(link, "#")
	if !named {
		id = "0"
	}
	hop := rib.NextHop{LinkKey: linkstate.LinkKey{Remote: dmsc.NodeID(node), ID: dmsc.LinkID(id)}, Weight: 1}
	if weighted {
		w, err := strconv.ParseUint(weight, 10, 32)
		if err != nil {
			t.Fatal(fmt.Errorf("next hop %q: %w", text, err))
		}
		hop.Weight = uint32(w)
	}
	return hop
}

// translate must succeed and give a valid set.
func translate(t *testing.T, s translator.State) translator.Resources {
	t.Helper()
	r, err := translator.Translate(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := xds.SetOf(r).Validate(); err != nil {
		t.Fatal(err)
	}
	return r
}
