package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/envoybin"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/spa"
	"github.com/dmsc-mesh/dmsc/translator"
)

// Options says what network to start.
type Options struct {
	Topology *topology.Topology
	// Grants is the text of the SPA's file; nil grants each pod of the topology
	// its prefixes. What they refuse, WaitConverged does not wait for.
	Grants []byte
	// Policies is the text of the SCSC's file; nil means no policy.
	Policies []byte
	// PolicyTTL is how long nodes steer without the SCSC; 0 is its default.
	PolicyTTL time.Duration
	// Settings are added to the configuration of a node; nil adds none.
	Settings func(dmsc.NodeID) map[string]any
	// Unrecorded leaves the xDS streams unrecorded, as a node does by default.
	Unrecorded bool
	// Dir receives every file of the network: configurations, states, logs. Its
	// path must be short (Unix sockets end at 107 bytes).
	Dir string
	// Binary is the dmsc executable.
	Binary string
	Envoy  envoybin.Binary
}

// Network is a running network: SPA, SCSC, and for each node of the topology
// an agent and an Envoy, joined by links whose every byte goes through relays,
// and a toy service for each prefix. The addresses of the topology are not
// used: every port is a free one of 127.0.0.1.
type Network struct {
	opts   Options
	ctx    context.Context // of the relays
	cancel context.CancelFunc
	group  *Group
	ports  []*Port

	SPA, SCSC *Daemon
	nodes     map[dmsc.NodeID]*Node
	links     []*Link
	toys      []*Process
	allowed   *topology.Topology // what of the pods the SPA will allow
}

// Daemon is one dmsc process with a health listener.
type Daemon struct {
	*Process
	Name   string
	Listen string // what it serves: an SPA's or SCSC's, or a node's API
	Health string
	args   []string
}

// Node is one SG or SR: agent and Envoy.
type Node struct {
	topology.Node // with the addresses in use
	Agent         *Daemon
	Envoy         *Envoy
	Dir           string
	Peering       string // where neighbours dial the agent
}

// Link is one link with its relays: of the control stream, and of the data
// path towards each end.
type Link struct {
	topology.Link
	control, toA, toB *Relay
}

func (l *Link) relays() []*Relay { return []*Relay{l.control, l.toA, l.toB} }

// SetDelay delays every byte of the link by d, each way, beside the delay that
// the topology gives it.
func (l *Link) SetDelay(d time.Duration) {
	for _, r := range l.relays() {
		r.SetDelay(l.Delay + d)
	}
}

// SetRate limits the data path to bit/s each way; 0 is what the topology gives
// the link, which may be no limit.
func (l *Link) SetRate(bps int64) {
	bps = cmp.Or(bps, int64(l.Bandwidth))
	l.toA.SetRate(bps)
	l.toB.SetRate(bps)
}

// Cut cuts the link or heals it.
func (l *Link) Cut(cut bool) {
	for _, r := range l.relays() {
		r.Cut(cut)
	}
}

// Blackhole lets the link swallow everything and tell nobody, or deliver again.
func (l *Link) Blackhole(on bool) {
	for _, r := range l.relays() {
		r.Blackhole(on)
	}
}

// Start starts everything and returns when the Envoys are live; WaitConverged
// waits for the network to be of use. ctx bounds the start only. Close ends
// the network; after an error nothing is left running.
func Start(ctx context.Context, opts Options) (_ *Network, err error) {
	n := &Network{opts: opts, group: NewGroup(), nodes: map[dmsc.NodeID]*Node{}}
	n.ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	for _, step := range []func(context.Context) error{n.plan, n.startCentres, n.startNodes, n.startPods} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// plan takes the ports and lays the links.
func (n *Network) plan(context.Context) error {
	for _, dir := range []string{"logs", "pods"} {
		if err := os.MkdirAll(n.Path(dir), 0o755); err != nil {
			return err
		}
	}
	for _, tn := range n.opts.Topology.Nodes {
		p, err := n.hold(4)
		if err != nil {
			return err
		}
		nd := &Node{Node: tn, Dir: filepath.Join(n.opts.Dir, string(tn.ID)), Peering: p[1]}
		nd.Fabric = p[0]
		nd.Probe = "unix://" + filepath.Join(nd.Dir, "probe.sock")
		nd.Admin = "unix://" + filepath.Join(nd.Dir, "admin.sock")
		nd.Agent = &Daemon{Name: string(tn.ID), Listen: p[2], Health: p[3], args: []string{"node", "--config", filepath.Join(nd.Dir, "node.yaml")}}
		if tn.Role == dmsc.RoleSG {
			in, err := n.hold(1)
			if err != nil {
				return err
			}
			nd.Ingress = in[0]
		}
		n.nodes[tn.ID] = nd
	}
	for _, tl := range n.opts.Topology.Links {
		if tl.OneWay {
			continue // declared by one end alone: no link
		}
		l := &Link{Link: tl}
		dialled := n.nodes[max(tl.A, tl.B)].Peering
		for _, r := range []struct {
			at     **Relay
			target string
		}{{&l.control, dialled}, {&l.toA, n.nodes[tl.A].Fabric}, {&l.toB, n.nodes[tl.B].Fabric}} {
			var err error
			if *r.at, err = NewRelay(n.ctx, r.target); err != nil {
				return err
			}
		}
		l.SetDelay(0)
		l.SetRate(0)
		n.links = append(n.links, l)
	}
	return nil
}

// hold takes n free ports for the life of the network.
func (n *Network) hold(count int) ([]string, error) {
	ports, err := HoldPorts(count)
	if err != nil {
		return nil, err
	}
	n.ports = append(n.ports, ports...)
	var addrs []string
	for _, p := range ports {
		addrs = append(addrs, p.Addr())
	}
	return addrs, nil
}

func (n *Network) startCentres(context.Context) error {
	p, err := n.hold(4)
	if err != nil {
		return err
	}
	grants := n.opts.Grants
	if grants == nil {
		grants = n.opts.Topology.Grants()
	}
	parsed, err := spa.ParseGrants("grants.yaml", grants)
	if err != nil {
		return err
	}
	n.allowed = Allowed(n.opts.Topology, spa.NewAuthority(parsed))
	if err := n.write("spa/grants.yaml", grants); err != nil {
		return err
	}
	if err := n.writeYAML("spa/spa.yaml", map[string]any{"listen": p[0], "health": p[1], "grants": n.Path("spa/grants.yaml")}); err != nil {
		return err
	}
	n.SPA = &Daemon{Name: "spa", Listen: p[0], Health: p[1], args: []string{"spa", "--config", n.Path("spa/spa.yaml")}}
	// The SCSC looks in from two nodes, so that losing one costs it nothing.
	var observe []string
	for _, tn := range n.opts.Topology.Nodes {
		if tn.Role == dmsc.RoleSR || len(n.opts.Topology.Nodes) <= 2 {
			observe = append(observe, n.nodes[tn.ID].Peering)
		}
	}
	if len(observe) == 0 {
		for _, nd := range n.nodes {
			observe = append(observe, nd.Peering)
		}
	}
	if len(observe) > 3 {
		observe = observe[:3]
	}
	scsc := map[string]any{
		"domain": n.domain(), "listen": p[2], "health": p[3], "observe": observe, "state_dir": n.Path("scsc/state"),
	}
	if n.opts.PolicyTTL > 0 {
		scsc["policy_ttl"] = n.opts.PolicyTTL.String()
	}
	if err := n.write("scsc/policies/policies.yaml", n.opts.Policies); err != nil {
		return err
	}
	scsc["policies"] = n.Path("scsc/policies")
	if err := n.writeYAML("scsc/scsc.yaml", scsc); err != nil {
		return err
	}
	n.SCSC = &Daemon{Name: "scsc", Listen: p[2], Health: p[3], args: []string{"scsc", "--config", n.Path("scsc/scsc.yaml")}}
	return errors.Join(n.StartDaemon(n.SPA), n.StartDaemon(n.SCSC))
}

func (n *Network) domain() string { return "lab" }

// startNodes writes every node's files and starts agents and Envoys.
func (n *Network) startNodes(ctx context.Context) error {
	for _, nd := range n.nodes {
		if err := n.writeNode(nd); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, id := range n.IDs() {
		g.Go(func() error { return n.StartNode(ctx, id) })
	}
	return g.Wait()
}

// writeNode writes a node's configuration and its Envoy's bootstrap.
func (n *Network) writeNode(nd *Node) error {
	var links []map[string]any
	for _, l := range n.links {
		var far dmsc.NodeID
		var metric dmsc.Metric
		var fabric *Relay // towards us
		switch nd.ID {
		case l.A:
			far, metric, fabric = l.B, l.Metric, l.toA
		case l.B:
			far, metric, fabric = l.A, l.ReverseMetric, l.toB
		default:
			continue
		}
		link := map[string]any{
			"neighbor": string(far), "id": string(l.ID), "metric": uint32(metric), "class": l.Class.String(),
			"dial": l.control.Addr(), "fabric": fabric.Addr(),
		}
		if l.Bandwidth > 0 {
			link["capacity"] = fmt.Sprintf("%dbps", l.Bandwidth)
		}
		if len(l.Tags) > 0 {
			link["tags"] = l.Tags
		}
		links = append(links, link)
	}
	cfg := map[string]any{
		"node": string(nd.ID), "domain": n.domain(), "role": nd.Role.String(), "transit": nd.Transit, "state_dir": filepath.Join(nd.Dir, "state"),
		"listen": map[string]any{
			"api": nd.Agent.Listen, "xds": "unix://" + filepath.Join(nd.Dir, "xds.sock"), "peering": nd.Peering, "health": nd.Agent.Health,
		},
		"links":      links,
		"avoid_tags": n.opts.Topology.AvoidTags,
		"spa":        map[string]any{"addresses": []string{n.SPA.Listen}},
		"scsc":       map[string]any{"addresses": []string{n.SCSC.Listen}},
	}
	if !n.opts.Unrecorded {
		cfg["record_xds"] = filepath.Join(nd.Dir, "xds.jsonl")
	}
	envoy := map[string]any{"fabric": nd.Fabric, "probe": nd.Probe, "admin": nd.Admin}
	if nd.Ingress != "" {
		envoy["ingress"] = nd.Ingress
	}
	cfg["envoy"] = envoy
	if n.opts.Settings != nil {
		maps.Copy(cfg, n.opts.Settings(nd.ID))
	}
	if err := n.writeYAML(string(nd.ID)+"/node.yaml", cfg); err != nil {
		return err
	}
	boot, err := translator.Bootstrap(nd.ID, nd.Admin, "unix://"+filepath.Join(nd.Dir, "xds.sock"))
	if err != nil {
		return fmt.Errorf("bootstrap of %s: %w", nd.ID, err)
	}
	text, err := translator.YAML(boot)
	if err != nil {
		return fmt.Errorf("bootstrap of %s: %w", nd.ID, err)
	}
	return n.write(string(nd.ID)+"/envoy.yaml", text)
}

// SetMetric writes another metric of the link from one node to another into the
// settings of the first; its agent reads them when it starts.
func (n *Network) SetMetric(from, to dmsc.NodeID, m dmsc.Metric) error {
	l := n.Link(from, to)
	if l.A == from {
		l.Metric = m
	} else {
		l.ReverseMetric = m
	}
	return n.writeNode(n.nodes[from])
}

// startPods starts a toy service for each prefix of the topology; each
// announces itself.
func (n *Network) startPods(context.Context) error {
	for _, pod := range n.opts.Topology.Pods {
		for _, s := range pod.Services {
			p, err := n.hold(1)
			if err != nil {
				return err
			}
			args := []string{
				"toy", "--listen", p[0], "--pod", pod.Name, "--prefix", s.Prefix.String(), "--gateway", n.nodes[pod.Gateway].Agent.Listen,
				"--protocol", s.Protocol.String(), "--metric", fmt.Sprint(s.Metric), "--weight", fmt.Sprint(s.Weight), "--preference", fmt.Sprint(s.Preference),
			}
			if s.ReplaySafe {
				args = append(args, "--replay-safe")
			}
			toy, err := n.group.Start(Command{
				Name: pod.Name + " " + s.Prefix.String(), Path: n.opts.Binary, Args: args,
				Log: n.Path("pods", pod.Name+".log"),
			})
			if err != nil {
				return err
			}
			n.toys = append(n.toys, toy)
		}
	}
	return nil
}

// StartDaemon starts a dmsc process, again after it was killed.
func (n *Network) StartDaemon(d *Daemon) (err error) {
	d.Process, err = n.group.Start(Command{Name: d.Name, Path: n.opts.Binary, Args: d.args, Log: n.Path("logs", d.Name+".log")})
	return err
}

// StartNode starts a node's agent and Envoy, again after they were killed, and
// waits for the Envoy to be live.
func (n *Network) StartNode(ctx context.Context, id dmsc.NodeID) error {
	nd := n.nodes[id]
	if nd.Agent.Process == nil || !nd.Agent.Running() {
		if err := n.StartDaemon(nd.Agent); err != nil {
			return err
		}
	}
	if nd.Envoy != nil && nd.Envoy.Running() {
		return nil
	}
	var err error
	nd.Envoy, err = LaunchEnvoy(n.group, EnvoyConfig{
		Name: string(id) + " envoy", Binary: n.opts.Envoy.Path, Bootstrap: filepath.Join(nd.Dir, "envoy.yaml"),
		Admin: filepath.Join(nd.Dir, "admin.sock"), Log: n.Path("logs", string(id)+"-envoy.log"),
	})
	if err != nil {
		return err
	}
	return nd.Envoy.WaitLive(ctx)
}

// KillNode ends a node's agent and Envoy by SIGKILL and returns when both have
// ended, so that StartNode can start them again.
func (n *Network) KillNode(id dmsc.NodeID) error {
	nd := n.nodes[id]
	if err := errors.Join(nd.Envoy.Kill(), nd.Agent.Kill()); err != nil {
		return err
	}
	<-nd.Envoy.Done()
	<-nd.Agent.Done()
	return nil
}

// Node returns a node of the network, nil for an unknown one.
func (n *Network) Node(id dmsc.NodeID) *Node { return n.nodes[id] }

// IDs lists the nodes, sorted.
func (n *Network) IDs() []dmsc.NodeID {
	var ids []dmsc.NodeID
	for id := range n.nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Link returns the first link between two nodes, nil if there is none.
func (n *Network) Link(a, b dmsc.NodeID) *Link {
	for _, l := range n.Between(a, b) {
		return l
	}
	return nil
}

// Between returns the links between two nodes: several when they are parallel.
func (n *Network) Between(a, b dmsc.NodeID) (out []*Link) {
	for _, l := range n.links {
		if l.A == a && l.B == b || l.A == b && l.B == a {
			out = append(out, l)
		}
	}
	return out
}

// Links returns how many links there are.
func (n *Network) Links() int { return len(n.links) }

// Path joins a name to the network's folder.
func (n *Network) Path(name ...string) string {
	return filepath.Join(append([]string{n.opts.Dir}, name...)...)
}

// Close stops what runs, in reverse order, and gives the ports back.
func (n *Network) Close() error {
	err := n.group.Stop(3 * time.Second)
	n.cancel()
	for _, l := range n.links {
		for _, r := range l.relays() {
			if r != nil {
				err = errors.Join(err, r.Close())
			}
		}
	}
	for _, p := range n.ports {
		err = errors.Join(err, p.Close())
	}
	return err
}

// write writes a file of the network; nil content is an empty file.
func (n *Network) write(name string, content []byte) error {
	path := n.Path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}

// writeYAML writes a file of plain values; JSON is YAML.
func (n *Network) writeYAML(name string, v map[string]any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return n.write(name, append(b, '\n'))
}

// Get reads a JSON page of a process's health listener into v.
func Get(ctx context.Context, addr, path string, v any) error {
	return admin.Client{Address: addr}.Read(ctx, path, nil, v)
}

// Status asks a node's agent what it believes.
func (n *Network) Status(ctx context.Context, id dmsc.NodeID) (s node.Status, err error) {
	err = Get(ctx, n.nodes[id].Agent.Health, "/api/v1/status", &s)
	return s, err
}

// Run starts the dmsc program with other arguments; its answer goes to out.
func (n *Network) Run(out io.Writer, args ...string) (*Process, error) {
	return n.group.Start(Command{Name: "dmsc " + args[0], Path: n.opts.Binary, Args: args, Stdout: out, Log: n.Path("logs", args[0]+".log")})
}
