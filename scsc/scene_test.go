package scsc_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/scsc"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

// The scenes in testdata/scene are read like this:
//
//	topology             nodes, links and announcements, one per line:
//	                       sg ID | sr ID | link A B METRIC [capacity=100Mbps] | announce NODE PREFIX [preference=N]
//	start [term=N] [warmup=D] [unconfirmed=N]   makes the Center; all nodes join
//	policies             QoSPolicy documents; prints what is wrong with them
//	link A B rtt=D [jitter=D] [lost=N/OF] [sent=BPS] [end=A]   what both ends (or one) measure from now on
//	service NODE PREFIX delay=D [unhealthy]
//	cut A B | restore A B       the link leaves or enters the LSDB
//	silent NODE | talk NODE     the node reports nothing and answers nothing
//	refuses NODE | accepts NODE the Envoy of the node refuses the policies of which it is the ingress
//	stages               how far each name has come at each ingress
//	leave NODE | join NODE      the session ends or begins
//	status NODE STATE REASON    the node reports suspended, refused or expired of all it holds
//	run D [events] [plans] [sets]   time passes: nodes report every 500 ms and answer LIVE, the
//	                     Center ticks every 100 ms; prints what is asked for with the time
//	explain NODE PREFIX  | query NODE PREFIX | holds NODE
//	live PREFIX          the nodes that have last reported its policy live
func TestScenes(t *testing.T) {
	datadriven.Walk(t, "testdata/scene", func(t *testing.T, path string) {
		s := newScene()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.do(d)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return out
		})
	})
}

type measured struct {
	rtt, jitter  time.Duration
	lost, probes uint32
	sent         uint64
}

type scene struct {
	mu       sync.Mutex // for tests with several goroutines
	net      *network
	center   *scsc.Center
	now      time.Time
	begun    time.Time
	links    map[[2]dmsc.NodeID]*measured // direction: measured by the first
	services map[dmsc.NodeID][]scsc.ServiceReport
	silent   map[dmsc.NodeID]bool
	away     map[dmsc.NodeID]bool
	refuses  map[dmsc.NodeID]bool
	holds    map[dmsc.NodeID]scsc.PolicySet
	out      strings.Builder
}

func newScene() *scene {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &scene{
		net: newTestNetwork(), now: at, begun: at,
		links:    make(map[[2]dmsc.NodeID]*measured),
		services: make(map[dmsc.NodeID][]scsc.ServiceReport),
		silent:   make(map[dmsc.NodeID]bool),
		away:     make(map[dmsc.NodeID]bool),
		refuses:  make(map[dmsc.NodeID]bool),
		holds:    make(map[dmsc.NodeID]scsc.PolicySet),
	}
}

func (s *scene) printf(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *scene) do(d *datadriven.TestData) (string, error) {
	s.out.Reset()
	var words []string
	opts := make(map[string]string)
	for _, a := range d.CmdArgs {
		if len(a.Vals) > 0 {
			opts[a.Key] = a.Vals[0]
		} else {
			words = append(words, a.Key)
		}
	}
	node := func(i int) dmsc.NodeID { return dmsc.NodeID(words[i]) }
	switch d.Cmd {
	case "topology":
		if err := s.net.read(d.Input); err != nil {
			return "", err
		}
	case "start":
		term, _ := strconv.ParseUint(opts["term"], 10, 64)
		warm, err := time.ParseDuration(opts["warmup"])
		if err != nil {
			warm = -1
		}
		unconfirmed, _ := strconv.Atoi(opts["unconfirmed"])
		s.center = scsc.NewCenter(scsc.Config{Term: max(term, 1), WarmUp: warm, MaxUnconfirmed: unconfirmed})
		s.center.LSDB(s.net.view())
		for _, n := range s.net.ids() {
			if !s.away[n] {
				s.center.NodeJoined(n)
			}
		}
	case "policies":
		set, err := policy.Parse("p.yaml", []byte(d.Input))
		if err != nil {
			return err.Error() + "\n", nil
		}
		s.center.SetPolicies(set.Rules)
		for _, w := range set.Warnings {
			s.printf("warning: %v", w)
		}
	case "link":
		return "", s.measure(node(0), node(1), opts)
	case "service":
		delay, err := time.ParseDuration(opts["delay"])
		if err != nil {
			return "", err
		}
		p := dmsc.MustParsePrefix(words[1])
		list := slices.DeleteFunc(s.services[node(0)], func(r scsc.ServiceReport) bool { return r.Prefix == p })
		s.services[node(0)] = append(list, scsc.ServiceReport{Prefix: p, Address: "127.0.0.1:1", Delay: delay, Healthy: !slices.Contains(words, "unhealthy")})
	case "cut", "restore":
		s.net.cut[pair(node(0), node(1))] = d.Cmd == "cut"
		s.center.LSDB(s.net.view())
	case "silent", "talk":
		s.silent[node(0)] = d.Cmd == "silent"
	case "refuses", "accepts":
		for i := range words {
			s.refuses[node(i)] = d.Cmd == "refuses"
		}
	case "stages":
		for _, r := range s.center.Rows() {
			s.printf("%s at %s: %s", r.Prefix, r.Ingress, strings.TrimSpace(strings.Join([]string{cmp.Or(string(r.Rollout), "plain SPF"), r.PolicyID, r.Stopped}, " ")))
		}
	case "leave":
		s.away[node(0)] = true
		s.center.NodeGone(node(0))
	case "join":
		s.away[node(0)] = false
		s.center.NodeJoined(node(0))
	case "status":
		state := map[string]scsc.State{"suspended": scsc.Suspended, "refused": scsc.Refused, "expired": scsc.Expired}[words[1]]
		for _, p := range s.holds[node(0)].Policies {
			s.center.Status(s.now, node(0), scsc.Status{Term: s.holds[node(0)].Term, PolicyID: p.ID, State: state, Reason: words[2]})
		}
	case "run":
		length, err := time.ParseDuration(words[0])
		if err != nil {
			return "", err
		}
		s.run(length, words[1:])
	case "explain":
		for _, l := range s.center.Explain(s.now, node(0), dmsc.MustParsePrefix(words[1])) {
			s.printf("%s", l)
		}
	case "query":
		a, err := s.center.Query(s.now, node(0), dmsc.MustParsePrefix(words[1]))
		if err != nil {
			return "error: " + err.Error() + "\n", nil
		}
		s.printf("%s instance=%s delay=%v", join(a.Path.Nodes), a.Path.Instance, a.Delay)
		for _, l := range a.Explanation {
			s.printf("  %s", l)
		}
	case "live":
		for _, r := range s.center.Rows() {
			if r.Prefix.String() == words[0] && r.PolicyID != "" {
				s.printf("%s at %s: %v", r.PolicyID, r.Ingress, r.Live)
			}
		}
	case "holds":
		s.printSet(node(0), s.holds[node(0)])
	default:
		return "", fmt.Errorf("unknown verb %s", d.Cmd)
	}
	return s.out.String(), nil
}

func (s *scene) measure(a, b dmsc.NodeID, opts map[string]string) error {
	m := measured{probes: 10}
	var err error
	if m.rtt, err = time.ParseDuration(opts["rtt"]); err != nil {
		return err
	}
	if v, ok := opts["jitter"]; ok {
		if m.jitter, err = time.ParseDuration(v); err != nil {
			return err
		}
	}
	if v, ok := opts["lost"]; ok {
		if _, err := fmt.Sscanf(v, "%d/%d", &m.lost, &m.probes); err != nil {
			return err
		}
	}
	if v, ok := opts["sent"]; ok {
		if m.sent, err = strconv.ParseUint(v, 10, 64); err != nil {
			return err
		}
	}
	for _, d := range [2][2]dmsc.NodeID{{a, b}, {b, a}} {
		if end, ok := opts["end"]; !ok || dmsc.NodeID(end) == d[0] {
			s.links[d] = new(m)
		}
	}
	return nil
}

// run lets time pass in steps of 100 ms.
func (s *scene) run(length time.Duration, show []string) {
	for end := s.now.Add(length); s.now.Before(end); {
		s.now = s.now.Add(100 * time.Millisecond)
		if s.now.Sub(s.begun)%(500*time.Millisecond) == 0 {
			for _, n := range s.net.ids() {
				if !s.silent[n] && !s.away[n] {
					s.center.Telemetry(s.now, n, s.report(n))
				}
			}
		}
		s.apply(s.center.Tick(s.now), show)
	}
}

func (s *scene) report(n dmsc.NodeID) scsc.Telemetry {
	t := scsc.Telemetry{Window: time.Second, Services: s.services[n]}
	for _, to := range s.net.neighbours(n) {
		m := s.links[[2]dmsc.NodeID{n, to}]
		if m == nil {
			m = &measured{rtt: time.Millisecond, probes: 10}
		}
		t.Links = append(t.Links, scsc.LinkReport{
			Link: linkstate.LinkKey{Remote: to, ID: "0"}, Probes: m.probes, Lost: m.lost,
			RTTMin: m.rtt, RTTMedian: m.rtt, RTTP95: m.rtt + 2*m.jitter, Jitter: m.jitter, SentBPS: m.sent,
		})
	}
	return t
}

func (s *scene) apply(d scsc.Decisions, show []string) {
	at := s.now.Sub(s.begun)
	for _, e := range d.Events {
		if slices.Contains(show, "events") {
			s.printf("%v %s %s", at, e.Kind, strings.TrimSpace(strings.Join([]string{e.Policy, string(e.Node), e.Text}, " ")))
		}
	}
	for _, p := range d.Plans {
		if slices.Contains(show, "plans") {
			s.printf("%v plan %s every %v suspects %v", at, p.Node, p.Plan.Every(), p.Plan.Suspects)
		}
	}
	for _, set := range d.Sets {
		s.holds[set.Node] = set.Set
		if slices.Contains(show, "sets") {
			s.out.WriteString(at.String() + " set ")
			s.printSet(set.Node, set.Set)
		}
		for _, p := range set.Set.Policies {
			switch {
			case s.silent[set.Node]:
			case s.refuses[set.Node] && p.Ingress == set.Node:
				s.center.Status(s.now, set.Node, scsc.Status{Term: set.Set.Term, Generation: set.Set.Generation, PolicyID: p.ID, State: scsc.Refused, Reason: "refused by Envoy: no good"})
			default:
				s.center.Status(s.now, set.Node, scsc.Status{Term: set.Set.Term, Generation: set.Set.Generation, PolicyID: p.ID, State: scsc.Live})
			}
		}
	}
}

func (s *scene) printSet(n dmsc.NodeID, set scsc.PolicySet) {
	s.printf("%s %d.%d", n, set.Term, set.Generation)
	for _, p := range set.Policies {
		s.printf("  %s %s instance=%s", p.ID, join(p.Paths[0].Nodes), p.Paths[0].Instance)
	}
}

func join(nodes []dmsc.NodeID) string {
	var b strings.Builder
	for i, n := range nodes {
		if i > 0 {
			b.WriteByte('>')
		}
		b.WriteString(string(n))
	}
	return b.String()
}

// network is a topology from which views are made.
type network struct {
	roles    map[dmsc.NodeID]dmsc.Role
	edges    map[[2]dmsc.NodeID]linkstate.Link // undirected, by sorted pair; Remote is unused
	cut      map[[2]dmsc.NodeID]bool
	prefixes map[dmsc.NodeID][]linkstate.Prefix
}

func newTestNetwork() *network {
	return &network{
		roles: make(map[dmsc.NodeID]dmsc.Role), edges: make(map[[2]dmsc.NodeID]linkstate.Link),
		cut: make(map[[2]dmsc.NodeID]bool), prefixes: make(map[dmsc.NodeID][]linkstate.Prefix),
	}
}

func pair(a, b dmsc.NodeID) [2]dmsc.NodeID { return [2]dmsc.NodeID{min(a, b), max(a, b)} }

func (n *network) ids() []dmsc.NodeID { return slices.Sorted(maps.Keys(n.roles)) }

func (n *network) neighbours(id dmsc.NodeID) []dmsc.NodeID {
	var out []dmsc.NodeID
	for p := range n.edges {
		switch id {
		case p[0]:
			out = append(out, p[1])
		case p[1]:
			out = append(out, p[0])
		}
	}
	slices.Sort(out)
	return out
}

func (n *network) read(input string) error {
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		switch f[0] {
		case "sg", "sr":
			role, err := dmsc.ParseRole(f[0])
			if err != nil {
				return err
			}
			for _, id := range f[1:] {
				n.roles[dmsc.NodeID(id)] = role
			}
		case "link":
			metric, err := strconv.Atoi(f[3])
			if err != nil {
				return err
			}
			l := linkstate.Link{ID: "0", Metric: dmsc.Metric(metric)}
			if len(f) > 4 {
				if _, err := fmt.Sscanf(f[4], "capacity=%d", &l.Capacity); err != nil {
					return err
				}
			}
			n.edges[pair(dmsc.NodeID(f[1]), dmsc.NodeID(f[2]))] = l
		case "announce":
			p := linkstate.Prefix{Prefix: dmsc.MustParsePrefix(f[2])}
			if len(f) > 3 {
				if _, err := fmt.Sscanf(f[3], "preference=%d", &p.Preference); err != nil {
					return err
				}
			}
			n.prefixes[dmsc.NodeID(f[1])] = append(n.prefixes[dmsc.NodeID(f[1])], p)
		default:
			return fmt.Errorf("unknown topology line %q", line)
		}
	}
	return nil
}

func (n *network) view() *linkstate.View {
	var records []*linkstate.LSA
	for _, id := range n.ids() {
		node := &linkstate.NodeLSA{Role: n.roles[id], Transit: n.roles[id] == dmsc.RoleSR}
		for _, to := range n.neighbours(id) {
			if e := n.edges[pair(id, to)]; !n.cut[pair(id, to)] {
				e.Remote = to
				node.Links = append(node.Links, e)
			}
		}
		records = append(records,
			&linkstate.LSA{Key: linkstate.Key{Origin: id, Type: linkstate.TypeNode}, Content: node},
			&linkstate.LSA{Key: linkstate.Key{Origin: id, Type: linkstate.TypePrefix}, Content: &linkstate.PrefixLSA{Prefixes: n.prefixes[id]}})
	}
	return &linkstate.View{Synced: true, Records: linkstate.NewRecords(records...)}
}
