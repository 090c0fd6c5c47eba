package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/topology"
)

// Kinds are the kinds of events, in the order of the summary.
var Kinds = []string{
	"cut", "cut_silent", "cut_control", "cut_data", "flap", "partition", "heal",
	"kill", "kill_agent", "kill_envoy",
	"restart", "restart_agent", "restart_envoy", "restart_blank", "restart_saved",
	"announce", "withdraw", "move", "metric", "drain", "undrain",
}

// phase is a part of the script that ends with a rest.
type phase struct {
	name  string
	lines []string
	kinds []string // of its events, in order
}

// perPhase is how many events a phase has.
const perPhase = 7

// Validate names every fault of the options.
func (o *Options) Validate() error {
	var faults []error
	if o.Topology == nil {
		return errors.New("no topology")
	}
	if !slices.ContainsFunc(o.Topology.Links, func(l topology.Link) bool { return !l.OneWay }) {
		faults = append(faults, fmt.Errorf("topology %s has no link that both ends declare: nothing can happen", o.Topology.Name))
	}
	if o.Events < 0 {
		faults = append(faults, fmt.Errorf("%d events", o.Events))
	}
	if !(o.Loss >= 0 && o.Loss <= 0.5) { // nor is NaN
		faults = append(faults, fmt.Errorf("loss %g is not between 0 and 0.5", o.Loss))
	}
	nodes, prefixes := len(o.Topology.Nodes), prefixes(o.Topology)
	if held := nodes * (nodes + prefixes); held > mostHeld {
		faults = append(faults, fmt.Errorf("%d nodes with %d prefixes would hold %d records in all their databases, in some %d GB of memory, and at most %d are simulated; "+
			"take a smaller network, such as dmsc gen random --nodes 500, or look at this one with dmsc spf", nodes, prefixes, held, held*bytesHeld>>30, mostHeld))
	}
	return errors.Join(faults...)
}

// What bounds a simulation is the memory for the databases and RIBs of all nodes
// together, as measured with networks of 300 and of 600 nodes.
const (
	mostHeld  = 2_000_000 // records, each counted at every node
	bytesHeld = 4 << 10   // for each
)

func prefixes(t *topology.Topology) (n int) {
	for _, p := range t.Pods {
		n += len(p.Services)
	}
	return n
}

// write makes the script.
func write(o Options) []phase {
	a := &author{
		rand: rand.New(rand.NewPCG(o.Seed, 77)), top: o.Topology, broken: map[int]bool{},
		deadAgent: map[dmsc.NodeID]bool{}, deadEnvoy: map[dmsc.NodeID]bool{}, saved: map[dmsc.NodeID]bool{},
		drained: map[dmsc.NodeID]bool{}, names: map[dmsc.NodeID][]string{},
	}
	for i, l := range o.Topology.Links {
		if !l.OneWay {
			a.links = append(a.links, i)
		}
	}
	a.draw(o)
	for e := 0; e < o.Events; {
		p := a.begin(fmt.Sprintf("events %d to %d", e+1, min(e+perPhase, o.Events)))
		for range min(perPhase, o.Events-e) {
			a.event()
			e++
			a.wait()
		}
		p.lines = append(p.lines, "rest")
	}
	a.mend()
	if o.Later {
		p := a.begin("two lifetimes later")
		p.lines = append(p.lines, "run 2h", "rest")
	}
	return a.phases
}

// author knows what it has broken.
type author struct {
	rand   *rand.Rand
	top    *topology.Topology
	links  []int // of the topology, those that are links
	phases []phase

	broken    map[int]bool // links by index
	deadAgent map[dmsc.NodeID]bool
	deadEnvoy map[dmsc.NodeID]bool
	saved     map[dmsc.NodeID]bool // has a copy of its state file
	drained   map[dmsc.NodeID]bool
	names     map[dmsc.NodeID][]string // announced
	fresh     int                      // names made up
}

func (a *author) begin(name string) *phase {
	a.phases = append(a.phases, phase{name: name})
	return &a.phases[len(a.phases)-1]
}

func (a *author) say(format string, args ...any) {
	p := &a.phases[len(a.phases)-1]
	p.lines = append(p.lines, fmt.Sprintf(format, args...))
}

// draw is the network and its first rest.
func (a *author) draw(o Options) {
	a.begin("start")
	a.say("seed %d", o.Seed)
	for _, n := range a.top.Nodes {
		line := fmt.Sprintf("node %s %s", n.ID, n.Role)
		if n.Transit != (n.Role == dmsc.RoleSR) {
			line += fmt.Sprintf(" transit=%t", n.Transit)
		}
		if o.Hold > 0 {
			line += fmt.Sprintf(" hold=%s", o.Hold)
		}
		if o.Lease > 0 {
			line += fmt.Sprintf(" lease=%s", o.Lease)
		}
		a.say("%s", line)
	}
	for _, i := range a.links {
		l := a.top.Links[i]
		line := fmt.Sprintf("link %s %s", l.A, l.B)
		if l.ID != "0" {
			line += fmt.Sprintf(" id=%s", l.ID)
		}
		line += fmt.Sprintf(" metric=%d", l.Metric)
		if l.ReverseMetric != l.Metric {
			line += fmt.Sprintf(" reverse=%d", l.ReverseMetric)
		}
		if l.Delay > 0 {
			line += fmt.Sprintf(" delay=%s", l.Delay)
		}
		if l.Class != 0 {
			line += fmt.Sprintf(" class=%s", l.Class)
		}
		if o.Loss > 0 {
			line += fmt.Sprintf(" loss=%g duplicate=%g reorder=%g", o.Loss, o.Loss, o.Loss)
		}
		a.say("%s", line)
	}
	for _, p := range a.top.Pods {
		for _, s := range p.Services {
			name := s.Prefix.String()
			if slices.Contains(a.names[p.Gateway], name) {
				continue
			}
			a.names[p.Gateway] = append(a.names[p.Gateway], name)
			line := fmt.Sprintf("announce %s %s", p.Gateway, name)
			for _, arg := range []struct {
				key   string
				value uint32
			}{{"metric", uint32(s.Metric)}, {"preference", s.Preference}, {"weight", s.Weight}} {
				if arg.value > 1 || arg.value == 1 && arg.key != "weight" {
					line += fmt.Sprintf(" %s=%d", arg.key, arg.value)
				}
			}
			a.say("%s", line)
		}
	}
	a.say("rest")
}

// wait is the time to the next event: mostly up to two seconds, sometimes so
// short that the two fall into one.
func (a *author) wait() {
	longest := 2 * time.Second
	if a.rand.IntN(4) == 0 {
		longest = 50 * time.Millisecond
	}
	a.say("run %s", time.Duration(1+a.rand.Int64N(int64(longest/time.Millisecond)))*time.Millisecond)
}

func (a *author) node() dmsc.NodeID { return a.top.Nodes[a.rand.IntN(len(a.top.Nodes))].ID }

// which returns a random node of which ok holds.
func (a *author) which(ok func(dmsc.NodeID) bool) (dmsc.NodeID, bool) {
	first := a.rand.IntN(len(a.top.Nodes))
	for i := range a.top.Nodes {
		if id := a.top.Nodes[(first+i)%len(a.top.Nodes)].ID; ok(id) {
			return id, true
		}
	}
	return "", false
}

// link returns the words that name a random link: broken, whole, or any if none
// is so.
func (a *author) link(broken bool) (int, string) {
	first := a.rand.IntN(len(a.links))
	i := a.links[first]
	for k := range a.links {
		if l := a.links[(first+k)%len(a.links)]; a.broken[l] == broken {
			i = l
			break
		}
	}
	return i, a.words(i)
}

func (a *author) words(i int) string {
	l := a.top.Links[i]
	if l.ID == "0" {
		return fmt.Sprintf("%s %s", l.A, l.B)
	}
	return fmt.Sprintf("%s %s id=%s", l.A, l.B, l.ID)
}

// event does something to the network. It mends as often as it breaks, and more
// when a third of it is broken.
func (a *author) event() {
	hurt := len(a.broken)*3 > len(a.links) || len(a.deadAgent)+len(a.deadEnvoy) > len(a.top.Nodes)/3
	for {
		kind := Kinds[a.rand.IntN(len(Kinds))]
		if hurt && a.rand.IntN(2) == 0 {
			kind = []string{"heal", "restart", "restart_agent", "restart_envoy", "restart_blank", "restart_saved"}[a.rand.IntN(6)]
		}
		if a.happens(kind) {
			p := &a.phases[len(a.phases)-1]
			p.kinds = append(p.kinds, kind)
			return
		}
	}
}

// happens writes the lines of an event, unless there is nothing it could happen
// to.
func (a *author) happens(kind string) bool {
	switch kind {
	case "cut", "cut_silent", "cut_control", "cut_data":
		i, words := a.link(false)
		a.broken[i] = true
		if len(kind) > 4 {
			words += " " + kind[4:]
		}
		a.say("cut %s", words)
	case "heal":
		if len(a.broken) == 0 {
			return false
		}
		i, words := a.link(true)
		delete(a.broken, i)
		a.say("heal %s", words)
	case "flap":
		i, words := a.link(false)
		for range 2 + a.rand.IntN(4) {
			a.say("cut %s", words)
			a.say("run %dms", 50+a.rand.IntN(700))
			a.say("heal %s", words)
			a.say("run %dms", 200+a.rand.IntN(1500))
		}
		delete(a.broken, i)
	case "partition":
		a.partition()
	case "kill":
		id, ok := a.which(func(id dmsc.NodeID) bool { return !a.deadAgent[id] || !a.deadEnvoy[id] })
		if !ok {
			return false
		}
		a.deadAgent[id], a.deadEnvoy[id] = true, true
		a.say("kill %s", id)
	case "kill_agent":
		id, ok := a.which(func(id dmsc.NodeID) bool { return !a.deadAgent[id] })
		if !ok {
			return false
		}
		a.deadAgent[id] = true
		a.say("kill %s agent", id)
	case "kill_envoy":
		id, ok := a.which(func(id dmsc.NodeID) bool { return !a.deadEnvoy[id] })
		if !ok {
			return false
		}
		a.deadEnvoy[id] = true
		a.say("kill %s envoy", id)
	case "restart", "restart_agent", "restart_envoy", "restart_blank", "restart_saved":
		return a.restart(kind)
	case "announce":
		a.fresh++
		a.announce(a.node(), fmt.Sprintf("g/%d", a.rand.IntN(10+a.fresh)))
	case "withdraw":
		id, ok := a.which(func(id dmsc.NodeID) bool { return len(a.names[id]) > 0 })
		if !ok {
			return false
		}
		a.withdraw(id)
	case "move":
		from, ok := a.which(func(id dmsc.NodeID) bool { return len(a.names[id]) > 0 })
		if !ok {
			return false
		}
		name := a.withdraw(from)
		a.announce(a.node(), name)
	case "metric":
		i, _ := a.link(a.rand.IntN(2) == 0)
		l := a.top.Links[i]
		from, to := l.A, l.B
		if a.rand.IntN(2) == 0 {
			from, to = to, from
		}
		a.say("metric %s %s %d id=%s", from, to, 1+a.rand.IntN(20), l.ID)
	case "drain":
		id, ok := a.which(func(id dmsc.NodeID) bool { return !a.deadAgent[id] && !a.drained[id] })
		if !ok {
			return false
		}
		a.drained[id] = true
		a.say("drain %s cost", id)
		if a.rand.IntN(2) == 0 {
			a.say("run %dms", a.rand.IntN(1000))
			a.say("drain %s removed", id)
		}
	case "undrain":
		id, ok := a.which(func(id dmsc.NodeID) bool { return a.drained[id] && !a.deadAgent[id] })
		if !ok {
			return false
		}
		delete(a.drained, id)
		a.say("drain %s none", id)
	}
	return true
}

// partition cuts every link between a random set of nodes and the others.
func (a *author) partition() {
	side := map[dmsc.NodeID]bool{}
	for _, n := range a.top.Nodes {
		side[n.ID] = a.rand.IntN(3) == 0
	}
	for _, i := range a.links {
		if l := a.top.Links[i]; side[l.A] != side[l.B] {
			a.broken[i] = true
			a.say("cut %s", a.words(i))
		}
	}
	if a.rand.IntN(2) == 0 {
		return
	}
	a.wait()
	for _, i := range a.links {
		if l := a.top.Links[i]; side[l.A] != side[l.B] {
			delete(a.broken, i)
			a.say("heal %s", a.words(i))
		}
	}
}

// restart starts a node that is dead as the kind says, or kills one for it.
func (a *author) restart(kind string) bool {
	id, ok := a.which(func(id dmsc.NodeID) bool {
		switch kind {
		case "restart":
			return a.deadAgent[id] && a.deadEnvoy[id]
		case "restart_agent":
			return a.deadAgent[id] && !a.deadEnvoy[id]
		case "restart_envoy":
			return !a.deadAgent[id] && a.deadEnvoy[id]
		case "restart_saved":
			return a.deadAgent[id] && a.saved[id]
		}
		return a.deadAgent[id]
	})
	switch {
	case ok:
	case kind == "restart_saved":
		id, ok = a.which(func(id dmsc.NodeID) bool { return !a.deadAgent[id] })
		if !ok {
			return false
		}
		a.saved[id] = true
		a.say("save %s", id)
		a.change(id)
		a.wait()
		a.say("kill %s", id)
		a.wait()
	default:
		return false
	}
	if kind != "restart_envoy" {
		delete(a.drained, id) // a restart of the agent ends a drain
	}
	delete(a.deadAgent, id)
	delete(a.deadEnvoy, id)
	switch kind {
	case "restart_blank":
		names := a.names[id]
		delete(a.names, id)
		a.say("restart %s blank", id)
		if len(names) > 0 && a.rand.IntN(2) == 0 { // its pods come back
			a.say("run %dms", a.rand.IntN(3000))
			for _, name := range names {
				a.announce(id, name)
			}
		}
	case "restart_saved":
		a.say("restart %s saved", id)
	default:
		a.say("restart %s", id)
	}
	return true
}

// change lets the records of a node go on beyond the copy of its state file.
func (a *author) change(id dmsc.NodeID) {
	a.fresh++
	a.announce(id, fmt.Sprintf("h/%d", a.fresh))
}

func (a *author) announce(id dmsc.NodeID, name string) {
	if !slices.Contains(a.names[id], name) {
		a.names[id] = append(a.names[id], name)
	}
	line := fmt.Sprintf("announce %s %s", id, name)
	if a.rand.IntN(3) == 0 {
		line += fmt.Sprintf(" metric=%d", a.rand.IntN(20))
	}
	if a.rand.IntN(4) == 0 {
		line += fmt.Sprintf(" preference=%d", a.rand.IntN(2))
	}
	if a.rand.IntN(4) == 0 {
		line += fmt.Sprintf(" weight=%d", 1+a.rand.IntN(5))
	}
	a.say("%s", line)
}

func (a *author) withdraw(id dmsc.NodeID) string {
	i := a.rand.IntN(len(a.names[id]))
	name := a.names[id][i]
	a.names[id] = slices.Delete(slices.Clone(a.names[id]), i, i+1)
	a.say("withdraw %s %s", id, name)
	return name
}

// mend ends all faults.
func (a *author) mend() {
	a.begin("all is mended")
	for _, i := range a.links {
		if a.broken[i] {
			a.say("heal %s", a.words(i))
		}
	}
	for _, n := range a.top.Nodes {
		if a.deadAgent[n.ID] || a.deadEnvoy[n.ID] {
			a.say("restart %s", n.ID)
		} else if a.drained[n.ID] {
			a.say("drain %s none", n.ID)
		}
	}
	a.say("rest")
}
