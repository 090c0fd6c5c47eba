package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

const (
	// computing and computingPerNode are the time from a change to the RIB. What
	// changes meanwhile is computed at once, as in a node that waits five times
	// the cost of its last computation.
	computing        = time.Millisecond
	computingPerNode = 10 * time.Microsecond
	// programming is the longest time from the RIB to the FIB in Envoy; each node
	// has its own.
	programming = 6 * time.Millisecond
	// patience is how long an agent that has no neighbour leaves Envoy its FIB:
	// a little less than linkstatetest takes until that Envoy counts as serving.
	patience = 5*time.Second - 2*programming
)

// network plays a script.
type network struct {
	*linkstatetest.Scene
	opts  Options
	nodes map[dmsc.NodeID]*node
	rand  *rand.Rand // for requests: they must not disturb the rest

	busy     time.Time // when a node last had something new to compute, to program or to pass on
	watched  bool      // requests are walked
	pins     []pin
	wishes   []wish
	requests Requests
	runs     [rib.RunFull + 1]int
	checks   Checks
}

// node is what belongs to a node besides its linkstate.Instance.
type node struct {
	id          dmsc.NodeID
	programming time.Duration

	// Of one life of the agent.
	instance *linkstate.Instance
	engine   *rib.Engine
	rib      *rib.RIB
	due      bool // a computation
	change   linkstate.Change
	keys     []linkstate.Key
	ready    bool // Envoy is given what is computed

	// Envoy's, which outlives the agent.
	fib *rib.RIB
}

// newNetwork returns an empty network, which stands still when ctx has ended.
// Without requests it plays the same, only faster.
func newNetwork(ctx context.Context, opts Options, requests bool) *network {
	n := &network{
		Scene: linkstatetest.NewScene(1), opts: opts, watched: requests,
		nodes: map[dmsc.NodeID]*node{}, rand: rand.New(rand.NewPCG(opts.Seed, 5)),
	}
	n.OnMessage = nil
	n.Stop = func() bool { return ctx.Err() != nil }
	n.OnReady = n.onReady
	n.AtRest = n.atRest
	if opts.Setup != nil {
		opts.Setup(n.Network)
	}
	return n
}

func (n *network) sinceStart() int64 { return n.Now().Sub(linkstatetest.Epoch).Milliseconds() }

// play plays a phase up to the first violation.
func (n *network) play(p phase) (Phase, *linkstatetest.Violation) {
	done := Phase{Name: p.name, StartMS: n.sinceStart(), Events: count(p.kinds)}
	messages, before := n.Traffic().Messages, n.requests
	var violation *linkstatetest.Violation
	for _, line := range p.lines {
		start := n.sinceStart()
		if strings.HasPrefix(line, "run ") && len(p.kinds) > 0 {
			n.ask(line)
		}
		if violation = n.line(line); violation != nil || n.Stop() {
			break
		}
		done.RestMS = n.sinceStart() - start
	}
	done.EndMS, done.Parts = n.sinceStart(), len(n.Parts())
	done.Messages, done.Requests = n.Traffic().Messages-messages, n.requests.minus(before)
	return done, violation
}

func count(kinds []string) map[string]int {
	out := map[string]int{}
	for _, k := range kinds {
		out[k]++
	}
	return out
}

// line plays one line. A panic of the engine is a violation like others: the
// scene that leads to it is what its finder needs.
func (n *network) line(line string) (v *linkstatetest.Violation) {
	defer func() {
		if r := recover(); r != nil {
			v = &linkstatetest.Violation{Rule: RulePanic, Text: fmt.Sprint(r)}
		}
	}()
	var out strings.Builder
	if err := n.Play(&out, line); err != nil && !errors.As(err, &v) {
		v = &linkstatetest.Violation{Rule: RuleScript, Text: fmt.Sprintf("%s: %v", line, err)}
	}
	return v
}

func (n *network) node(id dmsc.NodeID) *node {
	nd := n.nodes[id]
	if nd == nil {
		nd = &node{id: id, programming: time.Duration(1 + n.rand.Int64N(int64(programming)))}
		n.nodes[id] = nd
	}
	return nd
}

// onReady notes what a turn has changed and has it computed.
func (n *network) onReady(id dmsc.NodeID, rd linkstate.Ready) {
	nd, inst := n.node(id), n.Instance(id)
	if nd.instance != inst {
		*nd = node{id: id, programming: nd.programming, fib: nd.fib, instance: inst, engine: rib.New(id)}
		n.After(patience, func() { n.serve(nd, inst) })
	}
	if rd.Changed != 0 || slices.ContainsFunc(rd.Messages, isUpdate) {
		n.busy = n.Now()
	}
	nd.change |= rd.Changed
	nd.keys = append(nd.keys, rd.Records...)
	if rd.Changed != 0 && !nd.due {
		nd.due = true
		n.After(n.computing(), func() { n.compute(nd, inst) })
	}
	if !nd.ready && inst.View().Synced {
		n.After(n.computing(), func() { n.serve(nd, inst) })
	}
}

func isUpdate(e linkstate.Envelope) bool {
	_, ok := e.Message.(*linkstate.LSUpdate)
	return ok
}

func (n *network) computing() time.Duration {
	return computing + computingPerNode*time.Duration(len(n.nodes))
}

func (n *network) compute(nd *node, inst *linkstate.Instance) {
	if nd.instance != inst || n.Instance(nd.id) != inst {
		return
	}
	nd.rib, _ = nd.engine.Update(inst.View(), nd.change, nd.keys)
	n.runs[nd.engine.LastRun().Kind]++
	nd.due, nd.change, nd.keys = false, 0, nil
	n.program(nd, inst)
}

// serve lets Envoy have what is computed, from now on: what came before the
// database was complete is worse than the FIB of the last life.
func (n *network) serve(nd *node, inst *linkstate.Instance) {
	if nd.instance == inst && !nd.ready {
		nd.ready = true
		n.program(nd, inst)
	}
}

func (n *network) program(nd *node, inst *linkstate.Instance) {
	if !nd.ready || nd.rib == nil {
		return
	}
	n.busy = n.Now()
	r := nd.rib
	n.After(nd.programming, func() {
		if nd.instance == inst && n.Instance(nd.id) == inst {
			nd.fib = r
		}
	})
}

func (n *network) report() *Report {
	t := n.opts.Topology
	return &Report{
		Topology: t.Name, Nodes: len(t.Nodes), Links: len(t.Links), Seed: n.opts.Seed, Loss: n.opts.Loss,
		Events: n.opts.Events, Prefixes: prefixes(t), Phases: []Phase{}, Runs: map[string]int{}, ByKind: map[string]int{},
	}
}

// finish fills in the sums.
func (n *network) finish(r *Report) {
	for _, p := range r.Phases {
		for kind, k := range p.Events {
			r.ByKind[kind] += k
		}
	}
	for kind, k := range n.runs {
		r.Runs[rib.RunKind(kind).String()] = k
	}
	r.Holds = r.Failure == nil
	r.DurationMS, r.Traffic, r.Requests, r.Checks = n.sinceStart(), n.Traffic(), n.requests, n.checks
}
