package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/net/http/httpguts"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/translator/envoysim"
)

// explainFlags are the request to explain and where the network comes from.
type explainFlags struct {
	networkFlags
	at, listener            string
	method, authority, path string
	headers, dead, dumps    []string
}

func explainCommand() *cobra.Command {
	f := new(explainFlags)
	cmd := &cobra.Command{
		Use:   "explain --server NODE… | --topology FILE | --config-dump FILE… --node NODE [NAME]",
		Short: "Say which way a request takes through the Envoys, and why",
		Long: "Follow one request from a node's Envoy to the pod or the error: at each hop the listener, the virtual host and\n" +
			"the domain that matched, the route, the cluster, its hosts with their health, and the entry of the RIB that all\n" +
			"this comes from. Nothing is sent: the Envoys' resources are interpreted as Envoy would. Of several hosts or\n" +
			"weighted clusters the heaviest is followed, the first of equal ones.\n\n" +
			"NAME goes into dmsc-service-prefix; leave it out to explain a request by host (--authority) or by --header.\n" +
			"--dead says which nodes do not answer while nobody has noticed yet, and shows what is tried instead.\n\n" +
			"--server, or a fleet in " + nodesEnv + ", asks agents at their health listeners what their Envoys run now, instead of what\n" +
			"a topology would give them; the walk goes as far as there are nodes that answer:\n\n" +
			"  dmsc explain --server sg-1=http://10.0.0.1:17805 --server sr-1=http://10.0.0.2:17805 --node sg-1 b/4\n\n" +
			"--config-dump, once for each node, takes the same of files:\n\n" +
			"  curl -s http://127.0.0.1:15902/config_dump?include_eds > sg-1.json\n" +
			"  dmsc explain --config-dump sg-1.json --config-dump sr-1.json --node sg-1 b/4\n\n" +
			"The exit code is 0 if the request is answered, 1 if it is refused.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			r, err := f.request(name)
			if err != nil {
				return exit(exitUsage, err)
			}
			var o *offline
			switch {
			case len(f.dumps) > 0:
				o, err = dumpedNetwork(f.dumps)
			case f.live():
				o, err = liveNetwork(cmd, &f.nodeFlags)
			default:
				o, err = offlineNetwork(cmd, f.topology)
			}
			if err != nil {
				return err
			}
			report, err := explain(o, f, r)
			if err != nil {
				return errors.Join(o.absent, err)
			}
			if err := write(cmd.OutOrStdout(), f.output, report, printExplanation); err != nil {
				return err
			}
			switch {
			case report.Answer.Unknown && o.absent != nil:
				return fmt.Errorf("the request goes on to %s, of which nothing is known: %w", report.Answer.who(), o.absent)
			case report.Answer.Unknown && o.neighbours != nil:
				return exit(exitNo, fmt.Errorf("the request goes on to %s, which has not been asked: name it with --server", report.Answer.who()))
			case report.Answer.Unknown:
				return exit(exitNo, fmt.Errorf("the request goes on to %s, of which there is no config_dump here", report.Answer.Pod))
			}
			if o.absent != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", o.absent)
			}
			if report.Answer.Status >= 400 {
				return exit(exitNo, report.refusal(o, f.at, name))
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.dumps, "config-dump", nil, "what an Envoy's admin listener says to /config_dump?include_eds (repeatable)")
	fl.StringVar(&f.at, "node", "", "node whose Envoy gets the request")
	fl.StringVar(&f.listener, "listener", "", "listener it comes to (default: dmsc/ingress, of an SR dmsc/fabric)")
	fl.StringArrayVar(&f.headers, "header", nil, "header of the request, NAME=VALUE (repeatable)")
	fl.StringVar(&f.method, "method", "GET", "method")
	fl.StringVar(&f.authority, "authority", "", "host the request is for (default: the name of the node)")
	fl.StringVar(&f.path, "path", "/", "path")
	fl.StringSliceVar(&f.dead, "dead", nil, "nodes that take no connections, unnoticed (repeatable)")
	_ = cmd.MarkFlagRequired("node")
	f.networkFlags.add(cmd)
	cmd.MarkFlagsMutuallyExclusive("topology", "config-dump", "server")
	return cmd
}

// authorityLetters are what a host and a port are written with.
const authorityLetters = "abcdefghijklmnopqrstuvwxyz0123456789._-:[]"

// request is the one to follow. What no client can send, or Envoy's codec would
// refuse, is a slip of the pen.
func (f *explainFlags) request(name string) (envoysim.Request, error) {
	r := envoysim.Request{Method: strings.ToUpper(f.method), Authority: cmp.Or(f.authority, f.at), Path: f.path}
	switch {
	case f.method == "" || !httpguts.ValidHeaderFieldName(f.method):
		return r, fmt.Errorf("--method %q is not one word such as GET, POST or CONNECT", f.method)
	case strings.ContainsFunc(f.authority, func(c rune) bool { return !strings.ContainsRune(authorityLetters, unicode.ToLower(c)) }):
		return r, fmt.Errorf("--authority %q is not HOST or HOST:PORT: letters, digits and . _ - : are allowed, and [ ] for IPv6", f.authority)
	case f.path == "*" && r.Method == "OPTIONS":
	case !strings.HasPrefix(f.path, "/"):
		return r, fmt.Errorf("--path %q does not begin with a slash (only OPTIONS may ask for *)", f.path)
	case strings.ContainsFunc(f.path, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		return r, fmt.Errorf("--path %q has characters that no request line has: write them as %%20 and the like", f.path)
	case !httpguts.ValidHeaderFieldValue(name):
		return r, fmt.Errorf("name %q has control characters", name)
	}
	if name != "" {
		r.Headers = append(r.Headers, envoysim.Header{Name: "dmsc-service-prefix", Value: name})
	}
	for _, h := range f.headers {
		key, value, ok := strings.Cut(h, "=")
		if !ok || key == "" {
			return r, fmt.Errorf("header %q is not NAME=VALUE", h)
		}
		switch {
		case strings.EqualFold(key, "host"):
			return r, fmt.Errorf("header %q: the host is given by --authority", h)
		case !httpguts.ValidHeaderFieldName(key):
			return r, fmt.Errorf("header %q: %q is no name of a header: letters, digits and - _ . are allowed", h, key)
		case !httpguts.ValidHeaderFieldValue(value):
			return r, fmt.Errorf("header %q: the value has control characters", h)
		}
		r.Headers = append(r.Headers, envoysim.Header{Name: strings.ToLower(key), Value: value})
	}
	return r, nil
}

// offline is the converged network of a topology: what each node has computed,
// and all their Envoys.
type offline struct {
	*topology.Topology
	*envoysim.Network
	ribs map[dmsc.NodeID]*rib.RIB
	// why is the entry that answers a name at a node, nil for none or where that
	// is not known.
	why  func(at dmsc.NodeID, name string) *reason
	pods map[string]string // by address
	// Of a network that runs: the nodes that others know at their addresses, and
	// why some have not answered.
	neighbours map[string]dmsc.NodeID
	absent     error
}

func offlineNetwork(cmd *cobra.Command, file string) (*offline, error) {
	t, err := topologyOf(cmd, file)
	if err != nil {
		return nil, err
	}
	o, err := computed(t)
	return o, exit(exitUsage, err)
}

// computed is the network of a topology in which each node has converged.
func computed(t *topology.Topology) (*offline, error) {
	views := t.Views()
	return lazily(t, views, func(id dmsc.NodeID) *rib.RIB { return rib.Compute(views(id)) })
}

// lazily makes the Envoys of a topology that a request passes, when it does, by
// the routes that their nodes have.
func lazily(t *topology.Topology, views func(dmsc.NodeID) *linkstate.View, routes func(dmsc.NodeID) *rib.RIB) (*offline, error) {
	o := newOffline(t)
	at := make(map[string]dmsc.NodeID)
	for _, n := range t.Nodes {
		if other, taken := at[n.Fabric]; taken {
			return nil, fmt.Errorf("topology %s: node %s has the fabric address %s of %s", t.Name, n.ID, n.Fabric, other)
		}
		at[n.Fabric] = n.ID
	}
	o.Network = envoysim.Lazy(at, func(id dmsc.NodeID) (*envoysim.Node, error) {
		o.ribs[id] = routes(id)
		return envoy(offlineState(t, views(id), o.ribs[id]))
	})
	return o, nil
}

func newOffline(t *topology.Topology) *offline {
	o := &offline{Topology: t, ribs: make(map[dmsc.NodeID]*rib.RIB), pods: make(map[string]string)}
	o.why = func(at dmsc.NodeID, name string) *reason {
		if e := o.ribs[at].Lookup(name); e != nil {
			return reasonOf(node.StatusOf(e), nil)
		}
		return nil
	}
	for _, p := range t.Pods {
		for _, s := range p.Services {
			o.pods[net.JoinHostPort(s.Address, strconv.Itoa(int(s.Port)))] = p.Name
		}
	}
	return o
}

// envoy makes the Envoy of a node.
func envoy(s translator.State) (*envoysim.Node, error) {
	r, err := translator.Translate(s)
	if err != nil {
		return nil, err
	}
	n, err := envoysim.New(r)
	if err != nil {
		return nil, fmt.Errorf("the Envoy of %s is not understood: %w", s.Node, err)
	}
	return n, nil
}

// dumps are Envoys that run. Why they have what they have, they do not know.
type dumps struct {
	*offline
	envoys map[dmsc.NodeID]*envoysim.Node
}

func newDumps(name string) dumps {
	return dumps{
		newOffline(&topology.Topology{Name: name}),
		make(map[dmsc.NodeID]*envoysim.Node),
	}
}

func (d dumps) add(source string, text []byte) error {
	id, r, err := envoysim.FromConfigDump(text)
	if err == nil && d.envoys[id] != nil {
		err = fmt.Errorf("node %s has been read before", id)
	}
	var envoy *envoysim.Node
	if err == nil {
		envoy, err = envoysim.New(r)
	}
	if err != nil {
		return exit(exitUsage, fmt.Errorf("%s: %w", source, err))
	}
	n := topology.Node{ID: id, Role: dmsc.RoleSR}
	if slices.Contains(envoy.Listeners(), "dmsc/ingress") {
		n.Role = dmsc.RoleSG
	}
	d.envoys[id] = envoy
	d.Nodes = append(d.Nodes, n)
	d.ribs[id] = rib.NewRIB(id)
	return nil
}

func dumpedNetwork(files []string) (*offline, error) {
	d := newDumps("of config dumps")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, exit(exitUsage, err)
		}
		if err := d.add(file, text); err != nil {
			return nil, err
		}
	}
	var err error
	d.Network, err = envoysim.NewNetwork(d.envoys)
	return d.offline, exit(exitUsage, err)
}

// kill makes the hosts that are listeners of these nodes refuse connections.
func (o *offline) kill(nodes []string) error {
	for _, id := range nodes {
		if _, ok := o.Node(dmsc.NodeID(id)); !ok {
			return o.unknown(id)
		}
	}
	o.Dead = func(_ dmsc.NodeID, address string) bool {
		node, _, ok := o.Listener(address)
		return ok && slices.Contains(nodes, string(node))
	}
	return nil
}

func (o *offline) unknown(node string) error { return exit(exitUsage, unknownNode(o.Topology, node)) }

func unknownNode(t *topology.Topology, node string) error {
	var known []string
	for _, n := range t.Nodes {
		known = append(known, string(n.ID))
	}
	return fmt.Errorf("node %q is not in topology %s%s", node, t.Name, didYouMean(node, known))
}

// host names who is at an address.
func (o *offline) host(address string) string {
	if node, _, ok := o.Listener(address); ok {
		return string(node)
	}
	return cmp.Or(string(o.neighbours[address]), o.pods[address])
}

// didYouMean suggests the known word that is at most two letters away.
func didYouMean(word string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := distance(word, k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %s?", best)
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost = 1 + min(last, row[j], row[j+1])
			}
			last, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// explain follows the request.
func explain(o *offline, f *explainFlags, r envoysim.Request) (*explanation, error) {
	n, ok := o.Node(dmsc.NodeID(f.at))
	if !ok {
		return nil, o.unknown(f.at)
	}
	if err := o.kill(f.dead); err != nil {
		return nil, err
	}
	listener := f.listener
	switch {
	case listener == "" && n.Role == dmsc.RoleSG:
		listener = "dmsc/ingress"
	case listener == "":
		listener = "dmsc/fabric"
	}
	step, err := o.Walk(n.ID, listener, r, envoysim.Heaviest)
	if errors.Is(err, envoysim.ErrEndless) {
		return nil, exit(exitNo, err)
	}
	if err != nil {
		return nil, exit(exitUsage, err)
	}
	e := &explanation{Node: n.ID, Listener: listener, Method: r.Method, Authority: r.Authority, Path: r.Path, Headers: headerLines(r.Headers), Hops: []hop{}, Ways: []string{}}
	e.add(o, step, r)
	e.Answer = answered{Status: step.Reply.Status, Error: step.Reply.Error(), Pod: step.Pod, PodName: o.host(step.Pod)}
	if last := e.Hops[len(e.Hops)-1]; step.Pod != "" {
		e.Answer.Unknown = last.toNode()
		if e.Answer.Bytes = step.Terminated; !step.Terminated {
			e.Answer.Headers = headerLines(step.Request.Headers)
		}
	}
	if err := e.addWays(o, r); err != nil {
		return nil, err
	}
	return e, nil
}
