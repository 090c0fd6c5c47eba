package linkstatetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Scene runs the verbs of a datadriven file on a Network. A block is one verb
// per line, the command line being the first:
//
//	node sg-1 SG
//	node sr-1 SR
//	link sg-1 sr-1 metric=10
//	announce sg-1 a/1
//	run 2s
//	lsdb
//	----
//
// Verbs that print: lsdb, adjacency, synced, messages, alarms, changed, flooding, copies, holders,
// computed. The others print nothing unless they fail.
type Scene struct {
	*Network
	// AtRest, if set, checks what the caller builds on the network at every rest.
	AtRest func() *Violation

	violations []Violation // not printed yet
	messages   []string
	changed    map[dmsc.NodeID]linkstate.Change
	computed   []string            // when and where the topology was computed anew
	alarmed    map[dmsc.NodeID]int // alarms already printed
	copies     map[string]int      // of each version of a record
}

// NewScene returns a scene on an empty network.
func NewScene(seed uint64) *Scene {
	s := &Scene{Network: NewNetwork(seed), changed: make(map[dmsc.NodeID]linkstate.Change), alarmed: make(map[dmsc.NodeID]int), copies: make(map[string]int)}
	s.OnMessage = func(from dmsc.NodeID, e linkstate.Envelope) {
		s.messages = append(s.messages, fmt.Sprintf("%s %s>%s %s", s.Now().Sub(Epoch), from, e.Link, describe(e.Message)))
		s.count(e.Message)
	}
	s.OnViolation = func(v Violation) { s.violations = append(s.violations, v) }
	s.OnReady = func(id dmsc.NodeID, rd linkstate.Ready) {
		s.changed[id] |= rd.Changed
		if rd.Changed&linkstate.ChangedTopology != 0 {
			s.computed = append(s.computed, fmt.Sprintf("%s %s", s.Now().Sub(Epoch), id))
		}
	}
	return s
}

// Do runs one block and returns what it prints.
func (s *Scene) Do(d *datadriven.TestData) string {
	var out strings.Builder
	line := d.Cmd
	for _, a := range d.CmdArgs {
		line += " " + a.String()
	}
	for l := range strings.SplitSeq(line+"\n"+d.Input, "\n") {
		if l = strings.TrimSpace(l); l == "" || l[0] == '#' {
			continue
		}
		if err := s.Play(&out, l); err != nil {
			fmt.Fprintf(&out, "%s: %v\n", l, err)
		}
	}
	return out.String()
}

// Play runs one line. Its error is a *Violation, or about the line.
func (s *Scene) Play(out *strings.Builder, line string) error {
	if err := s.verb(out, line); err != nil {
		return err
	}
	if len(s.violations) > 0 {
		v := s.violations[0]
		s.violations = nil
		return &v
	}
	return nil
}

// arguments are the words of a line, those of the form key=value apart.
type arguments struct {
	words []string
	named map[string]string
	errs  []error
}

func (a *arguments) word(n int) string {
	if n < len(a.words) {
		return a.words[n]
	}
	a.errs = append(a.errs, fmt.Errorf("argument %d is missing", n+1))
	return ""
}

func (a *arguments) id(n int) dmsc.NodeID { return dmsc.NodeID(a.word(n)) }

func (a *arguments) number(name string) uint64 {
	if a.named[name] == "" {
		return 0
	}
	v, err := strconv.ParseUint(a.named[name], 10, 64)
	a.errs = append(a.errs, err)
	return v
}

func (a *arguments) fraction(name string) float64 {
	if a.named[name] == "" {
		return 0
	}
	v, err := strconv.ParseFloat(a.named[name], 64)
	a.errs = append(a.errs, err)
	return v
}

func (a *arguments) duration(s string) time.Duration {
	if s == "" {
		return 0
	}
	v, err := time.ParseDuration(s)
	a.errs = append(a.errs, err)
	return v
}

func (a *arguments) class() (c dmsc.LinkClass) {
	if s := a.named["class"]; s != "" {
		a.errs = append(a.errs, c.UnmarshalText([]byte(s)))
	}
	return c
}

func (a *arguments) list(name string) []string {
	return strings.FieldsFunc(a.named[name], func(r rune) bool { return r == ',' })
}

func (s *Scene) verb(out *strings.Builder, line string) error {
	fields := strings.Fields(line)
	a := &arguments{named: make(map[string]string)}
	for _, f := range fields[1:] {
		if k, v, ok := strings.Cut(f, "="); ok {
			a.named[k] = v
		} else {
			a.words = append(a.words, f)
		}
	}
	do, ok := verbs[fields[0]]
	if !ok {
		return fmt.Errorf("no such verb; there are %s", strings.Join(slices.Sorted(maps.Keys(verbs)), ", "))
	}
	do(s, a, out)
	return errors.Join(a.errs...)
}

var verbs = map[string]func(*Scene, *arguments, *strings.Builder){
	"seed":      (*Scene).doSeed,
	"node":      (*Scene).doNode,
	"link":      (*Scene).doLink,
	"announce":  (*Scene).doAnnounce,
	"authorize": (*Scene).doAuthorize,
	"withdraw":  (*Scene).doWithdraw,
	"replace":   (*Scene).doReplace,
	"run":       (*Scene).doRun,
	"rest":      (*Scene).doRest,
	"cut":       (*Scene).doCut,
	"heal":      (*Scene).doHeal,
	"kill":      (*Scene).doKill,
	"save":      (*Scene).doSave,
	"restart":   (*Scene).doRestart,
	"drain":     (*Scene).doDrain,
	"metric":    (*Scene).doMetric,
	"delay":     (*Scene).doDelay,
	"quality":   (*Scene).doQuality,
	"probed":    (*Scene).doProbed,
	"forge":     (*Scene).doForge,
	"hello":     (*Scene).doHello,
	"lsdb":      (*Scene).doLSDB,
	"adjacency": (*Scene).doAdjacency,
	"synced":    (*Scene).doSynced,
	"messages":  (*Scene).doMessages,
	"alarms":    (*Scene).doAlarms,
	"changed":   (*Scene).doChanged,
	"clique":    (*Scene).doClique,
	"mute":      (*Scene).doMute,
	"flooding":  (*Scene).doFlooding,
	"copies":    (*Scene).doCopies,
	"holders":   (*Scene).doHolders,
	"computed":  (*Scene).doComputed,
}

// Example: node sg-1 SG transit=true lifetime=10m lease=30s hold=60s algorithm=1 avoid=metered,satellite
func (s *Scene) doNode(a *arguments, _ *strings.Builder) {
	id := a.id(0)
	role, err := dmsc.ParseRole(a.word(1))
	a.errs = append(a.errs, err)
	lifetime, lease, hold := a.duration(a.named["lifetime"]), a.duration(a.named["lease"]), a.duration(a.named["hold"])
	algorithm := linkstate.Algorithm(a.number("algorithm"))
	domain, avoid, transit := a.named["domain"], a.list("avoid"), a.named["transit"]
	if errors.Join(a.errs...) != nil {
		return
	}
	s.AddNode(id, role, func(c *linkstate.Config) {
		c.Lifetime, c.Lease, c.Hold, c.Algorithm, c.Avoid = lifetime, lease, hold, algorithm, avoid
		if domain != "" {
			c.Domain = domain
		}
		if transit != "" {
			c.Transit = transit == "true"
		}
	})
}

// Example: link sg-1 sr-1 id=1 metric=10 reverse=15 delay=5ms class=lan tags=satellite loss=0.1 duplicate=0.1 reorder=0.1
func (s *Scene) doLink(a *arguments, _ *strings.Builder) {
	x, y := a.id(0), a.id(1)
	l := Link{
		ID: dmsc.LinkID(a.named["id"]), Metric: dmsc.Metric(a.number("metric")), Reverse: dmsc.Metric(a.number("reverse")),
		Class: a.class(), Tags: a.list("tags"), Delay: a.duration(a.named["delay"]), Loss: a.fraction("loss"), Duplicate: a.fraction("duplicate"), Reorder: a.fraction("reorder"),
	}
	if errors.Join(a.errs...) == nil {
		s.AddLink(x, y, l)
	}
}

// Example: announce sg-1 a/1 b/2 metric=5 preference=1 weight=3
func (s *Scene) doAnnounce(a *arguments, _ *strings.Builder) {
	var ps []linkstate.Prefix
	for _, w := range a.words[1:] {
		p := Prefix(w)
		p.Metric, p.Preference = dmsc.Metric(a.number("metric")), uint32(a.number("preference"))
		p.Weight = max(p.Weight, uint32(a.number("weight")))
		ps = append(ps, p)
	}
	s.Announce(a.id(0), ps...)
}

// doAuthorize sets the serials of the authorizations that a node floods.
//
// Example: authorize sg-1 7 8
func (s *Scene) doAuthorize(a *arguments, _ *strings.Builder) {
	auths := make(map[uint32]*linkstate.AuthLSA)
	for _, w := range a.words[1:] {
		serial, err := strconv.ParseUint(w, 10, 32)
		a.errs = append(a.errs, err)
		auths[uint32(serial)] = &linkstate.AuthLSA{POA: []byte("poa " + w)}
	}
	s.Step(a.id(0), linkstate.SetAuthorizations{Authorizations: auths})
}

// Example: withdraw sg-1 a/1
func (s *Scene) doWithdraw(a *arguments, _ *strings.Builder) { s.Withdraw(a.id(0), a.words[1:]...) }

// Example: replace sg-1 b/1 (all it announces, in one turn)
func (s *Scene) doReplace(a *arguments, _ *strings.Builder) {
	var ps []linkstate.Prefix
	for _, w := range a.words[1:] {
		ps = append(ps, Prefix(w))
	}
	s.Replace(a.id(0), ps...)
}

// Example: seed 7 (before the first node; the chances of a scene follow from 1 else)
func (s *Scene) doSeed(a *arguments, _ *strings.Builder) {
	seed, err := strconv.ParseUint(a.word(0), 10, 64)
	a.errs = append(a.errs, err)
	s.Seed(seed)
}

// doRest waits until the network is at rest and says what keeps it from it.
//
// Example: rest [5m]
func (s *Scene) doRest(a *arguments, _ *strings.Builder) {
	limit := longestRest
	if len(a.words) > 0 {
		limit = a.duration(a.word(0))
	}
	v := s.Rest(limit)
	if v == nil && s.AtRest != nil {
		v = s.AtRest()
	}
	if v != nil {
		a.errs = append(a.errs, v)
	}
}

// longestRest outlasts hold, lease and damping, one after the other.
const longestRest = 4 * time.Minute

// Example: run 2s
func (s *Scene) doRun(a *arguments, _ *strings.Builder) { s.Run(a.duration(a.word(0))) }

// Example: cut sg-1 sr-1 [silent|control|data] [id=1]
func (s *Scene) doCut(a *arguments, _ *strings.Builder) {
	x, y, id := a.id(0), a.id(1), dmsc.LinkID(a.named["id"])
	switch strings.Join(a.words[2:], " ") {
	case "":
		s.Cut(x, y, id)
	case "silent":
		s.CutSilently(x, y, id)
	case "control":
		s.CutControl(x, y, id)
	case "data":
		s.CutData(x, y, id)
	default:
		a.errs = append(a.errs, errors.New("cut what?"))
	}
}

// Example: heal sg-1 sr-1 [id=1]
func (s *Scene) doHeal(a *arguments, _ *strings.Builder) {
	s.Heal(a.id(0), a.id(1), dmsc.LinkID(a.named["id"]))
}

// Example: kill sr-1 [agent|envoy]
func (s *Scene) doKill(a *arguments, _ *strings.Builder) {
	switch strings.Join(a.words[1:], " ") {
	case "":
		s.Kill(a.id(0))
	case "agent":
		s.KillAgent(a.id(0))
	case "envoy":
		s.KillEnvoy(a.id(0))
	default:
		a.errs = append(a.errs, errors.New("kill what?"))
	}
}

// Example: save sr-1 (a copy of its state file)
func (s *Scene) doSave(a *arguments, _ *strings.Builder) { s.Save(a.id(0)) }

// Example: restart sr-1 [blank|saved] (its state file is lost, or is the copy)
func (s *Scene) doRestart(a *arguments, _ *strings.Builder) {
	switch strings.Join(a.words[1:], " ") {
	case "":
		s.Restart(a.id(0))
	case "blank":
		s.RestartBlank(a.id(0))
	case "saved":
		s.RestartSaved(a.id(0))
	default:
		a.errs = append(a.errs, errors.New("restart from what?"))
	}
}

// Example: drain sr-1 cost
func (s *Scene) doDrain(a *arguments, _ *strings.Builder) {
	level, err := linkstate.ParseDrain(a.word(1))
	a.errs = append(a.errs, err)
	s.Step(a.id(0), linkstate.SetDrain{Level: level})
}

// Example: metric sg-1 sr-1 20
func (s *Scene) doMetric(a *arguments, _ *strings.Builder) {
	m, err := strconv.ParseUint(a.word(2), 10, 32)
	a.errs = append(a.errs, err)
	s.Change(a.id(0), a.id(1), dmsc.LinkID(a.named["id"]), func(l *Link) {
		if a.id(0) < a.id(1) {
			l.Metric = dmsc.Metric(m)
		} else {
			l.Reverse = dmsc.Metric(m)
		}
	})
}

// Example: delay sg-1 sr-1 20ms
func (s *Scene) doDelay(a *arguments, _ *strings.Builder) {
	d := a.duration(a.word(2))
	s.Change(a.id(0), a.id(1), dmsc.LinkID(a.named["id"]), func(l *Link) { l.Delay = d })
}

// Example: quality sg-1 sr-1 delay=3ms loss=0.01
func (s *Scene) doQuality(a *arguments, _ *strings.Builder) {
	s.Step(a.id(0), linkstate.SetQuality{Link: a.link(), Delay: a.duration(a.named["delay"]), Loss: a.fraction("loss")})
}

// link is the link from word 0 to word 1.
func (a *arguments) link() linkstate.LinkKey {
	id := dmsc.LinkID(a.named["id"])
	if id == "" {
		id = "0"
	}
	return linkstate.LinkKey{Remote: a.id(1), ID: id}
}

// Example: probed sg-1 sr-1 peer=sr-2 (a result besides those of the network)
func (s *Scene) doProbed(a *arguments, _ *strings.Builder) {
	link, peer := a.link(), dmsc.NodeID(a.named["peer"])
	s.Step(a.id(0), linkstate.Probed{Link: link, OK: peer == link.Remote, Peer: peer, RTT: time.Millisecond})
}

// doForge hands sr-1 a record as if sg-1 had sent it on their link.
//
// Example: forge sr-1 sg-1 origin=sg-9 type=2 fragment=7 order=3.1 body=x [size=70000] [age=59m] [tombstone=true]
func (s *Scene) doForge(a *arguments, _ *strings.Builder) {
	l := &linkstate.LSA{
		Key:       linkstate.Key{Origin: dmsc.NodeID(a.named["origin"]), Type: linkstate.Type(a.number("type")), Fragment: uint32(a.number("fragment"))},
		NotAfter:  s.Now().Add(linkstate.MaxLifetime - a.duration(a.named["age"])),
		Tombstone: a.named["tombstone"] == "true",
	}
	inc, seq, _ := strings.Cut(a.named["order"], ".")
	var err error
	l.Incarnation, err = strconv.ParseUint(inc, 10, 64)
	a.errs = append(a.errs, err)
	l.Seq, err = strconv.ParseUint(seq, 10, 64)
	a.errs = append(a.errs, err)
	switch body := a.named["body"]; {
	case l.Tombstone:
	case l.Type == linkstate.TypePrefix && body != "":
		l.Content = &linkstate.PrefixLSA{Prefixes: []linkstate.Prefix{Prefix(body)}}
		l.Body = Encode(l.Content)
	case l.Type == linkstate.TypeNode && body == "":
		l.Content = &linkstate.NodeLSA{Role: dmsc.RoleSR}
		l.Body = Encode(l.Content)
	default:
		l.Body = []byte(body)
	}
	if n := a.number("size"); n > 0 {
		l.Body = make([]byte, n)
	}
	s.Step(a.id(0), linkstate.Received{Link: a.link(), Message: &linkstate.LSUpdate{Seq: 1, Records: []*linkstate.LSA{l}}})
}

// doHello hands sr-1 a hello as if sg-1 had sent it on their link.
//
// Example: hello sr-1 sg-1 domain=other node=sg-1 name=0 role=SG
func (s *Scene) doHello(a *arguments, _ *strings.Builder) {
	h := &linkstate.Hello{Domain: "test", Node: a.id(1), Link: "0", Role: dmsc.RoleSG, Session: 99, DataPlane: true, Incarnation: 1, Held: a.number("held")}
	if d := a.named["domain"]; d != "" {
		h.Domain = d
	}
	if d := a.named["node"]; d != "" {
		h.Node = dmsc.NodeID(d)
	}
	if d := a.named["name"]; d != "" {
		h.Link = dmsc.LinkID(d)
	}
	if d := a.named["role"]; d != "" {
		h.Role, _ = dmsc.ParseRole(d)
	}
	s.Step(a.id(0), linkstate.Received{Link: a.link(), Message: h})
}

// doLSDB prints the database of a node, or of all if they agree.
//
// Example: lsdb sg-1
func (s *Scene) doLSDB(a *arguments, out *strings.Builder) {
	nodes := s.alive()
	if len(a.words) > 0 {
		nodes = []dmsc.NodeID{a.id(0)}
	}
	groups := make(map[string][]dmsc.NodeID)
	var order []string
	for _, id := range nodes {
		db := describeLSDB(s.Instance(id).View())
		if groups[db] == nil {
			order = append(order, db)
		}
		groups[db] = append(groups[db], id)
	}
	for _, db := range order {
		fmt.Fprintf(out, "%s:\n%s", join(groups[db]), db)
	}
}

func (s *Scene) alive() []dmsc.NodeID {
	return slices.DeleteFunc(s.Nodes(), func(id dmsc.NodeID) bool { return s.Instance(id) == nil })
}

func join(ids []dmsc.NodeID) string { return strings.Trim(fmt.Sprint(ids), "[]") }

// Example: adjacency sg-1 (all nodes without a name)
func (s *Scene) doAdjacency(a *arguments, out *strings.Builder) {
	nodes := s.alive()
	if len(a.words) > 0 {
		nodes = []dmsc.NodeID{a.id(0)}
	}
	for _, id := range nodes {
		for _, adj := range s.Instance(id).View().Adjacencies {
			fmt.Fprintf(out, "%s>%s %s", id, adj.LinkKey, adj.State)
			for _, f := range []struct {
				on   bool
				name string
			}{{adj.Observer, "observer"}, {adj.Alive, "alive"}, {adj.AnsweredBy != "", fmt.Sprintf("answered_by=%s", adj.AnsweredBy)}, {adj.Resumed, "resumed"}, {adj.Flapping, "flapping"}, {!adj.DampedUntil.IsZero(), fmt.Sprintf("damped=%s", adj.DampedUntil.Sub(s.Now()).Round(time.Millisecond))}, {adj.Pending > 0, fmt.Sprintf("pending=%d", adj.Pending)}} {
				if f.on {
					fmt.Fprintf(out, " %s", f.name)
				}
			}
			fmt.Fprintln(out)
		}
	}
}

// Example: synced (who has ended the start-up phase)
func (s *Scene) doSynced(_ *arguments, out *strings.Builder) {
	for _, id := range s.alive() {
		v := s.Instance(id).View()
		fmt.Fprintf(out, "%s synced=%t incarnation=%d", id, v.Synced, v.Incarnation)
		if v.Drain != linkstate.DrainNone {
			fmt.Fprintf(out, " drain=%s drained=%t", v.Drain, v.Drained)
		}
		fmt.Fprintln(out)
	}
}

// doMessages prints what was sent since the last call, or what of it contains
// the given words.
//
// Example: messages update
func (s *Scene) doMessages(a *arguments, out *strings.Builder) {
	for _, m := range s.messages {
		if len(a.words) == 0 || strings.Contains(m, strings.Join(a.words, " ")) {
			fmt.Fprintln(out, m)
		}
	}
	s.messages = nil
}

// Example: alarms (new ones of every node)
func (s *Scene) doAlarms(_ *arguments, out *strings.Builder) {
	for _, id := range s.Nodes() {
		all := s.Alarms(id)
		for _, al := range all[s.alarmed[id]:] {
			fmt.Fprintf(out, "%s %s: %s\n", id, al.Code, al.Text)
		}
		s.alarmed[id] = len(all)
	}
}

// Example: changed (what each node was told to compute since the last call)
func (s *Scene) doChanged(_ *arguments, out *strings.Builder) {
	for _, id := range s.Nodes() {
		if c := s.changed[id]; c != 0 {
			fmt.Fprintf(out, "%s %s\n", id, describeChange(c))
		}
	}
	clear(s.changed)
}

// doComputed prints when each node was told to compute the topology anew, since
// the last call.
//
// Example: computed
func (s *Scene) doComputed(_ *arguments, out *strings.Builder) {
	for _, c := range s.computed {
		fmt.Fprintln(out, c)
	}
	s.computed = nil
}
