package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator/envoysim"
)

// explanation is the output of `dmsc explain`: the hops in the order in which
// the request reaches them, retries included.
type explanation struct {
	Node      dmsc.NodeID `json:"node"`
	Listener  string      `json:"listener"`
	Method    string      `json:"method"`
	Authority string      `json:"authority"`
	Path      string      `json:"path"`
	Headers   []string    `json:"headers"`
	Hops      []hop       `json:"hops"`
	Answer    answered    `json:"answer"`
	// Ways are the nodes and the pod of each way that the request may take by
	// chance, sorted; at most maxWays.
	Ways []string `json:"ways"`
}

const maxWays = 20

// hop is one passage through an Envoy.
type hop struct {
	Node        dmsc.NodeID `json:"node"`
	Listener    string      `json:"listener"`
	Table       string      `json:"table"`
	Key         string      `json:"key"`
	VirtualHost string      `json:"virtual_host,omitempty"`
	Domain      string      `json:"domain,omitempty"`
	Route       int         `json:"route"` // index within the virtual host, -1 for none
	Match       string      `json:"match,omitempty"`
	// Why is the entry of the node's RIB that the virtual host was made of; an
	// explicit path has none.
	Why     *reason    `json:"why,omitempty"`
	Shares  []shareOut `json:"shares"`
	Retry   *retryOut  `json:"retry,omitempty"`
	Tries   []tryOut   `json:"tries"`
	Status  uint32     `json:"status"` // that this node answers in the end
	Error   string     `json:"error,omitempty"`
	Flag    string     `json:"flag,omitempty"` // Envoy's response flag, if it answered itself
	Headers []string   `json:"headers"`        // of ours, as the request came to this node
}

type reason struct {
	Prefix    string        `json:"prefix"`
	Kind      string        `json:"kind"`
	Distance  dmsc.Metric   `json:"distance"`
	Egress    []dmsc.NodeID `json:"egress"`
	Local     bool          `json:"local"`
	NextHops  []string      `json:"next_hops"`
	Backup    []string      `json:"backup"`
	NoBackup  string        `json:"no_backup,omitempty"` // why there is none
	Instances []string      `json:"instances"`
	// Steering are the policies that send a share along explicit paths, at the
	// gateway; a topology has none.
	Steering []node.SteeringStatus `json:"steering,omitempty"`
}

type shareOut struct {
	Cluster string    `json:"cluster"`
	Weight  uint32    `json:"weight"`
	Chosen  bool      `json:"chosen"`
	Hosts   []hostOut `json:"hosts"`
}

type hostOut struct {
	Address  string `json:"address"`
	Is       string `json:"is,omitempty"` // the node or pod at the address
	Priority uint32 `json:"priority"`
	Weight   uint32 `json:"weight"`
	Healthy  bool   `json:"healthy"`
	Checked  bool   `json:"checked"` // by active health checks, which may know better
}

type retryOut struct {
	Times uint32   `json:"times"`
	On    []string `json:"on"`
}

type tryOut struct {
	Address string `json:"address"`
	Is      string `json:"is,omitempty"`
	Refused bool   `json:"refused"`
	Status  uint32 `json:"status"`
	Error   string `json:"error,omitempty"`
}

type answered struct {
	Status  uint32 `json:"status"`
	Error   string `json:"error,omitempty"`
	Pod     string `json:"pod,omitempty"` // address
	PodName string `json:"pod_name,omitempty"`
	// Unknown: the address and name are no pod's but those of a node that is not here.
	Unknown bool `json:"unknown,omitempty"`
	// Headers that it is sent besides the method, the host and the path. Bytes:
	// none of these, as a CONNECT ends before it.
	Headers []string `json:"headers,omitempty"`
	Bytes   bool     `json:"bytes,omitempty"`
}

func (a answered) who() string { return named(a.PodName, a.Pod) }

// toNode reports whether the hosts of a hop are other nodes.
func (h *hop) toNode() bool {
	return slices.ContainsFunc(h.Shares, func(s shareOut) bool {
		return s.Chosen && (strings.HasPrefix(s.Cluster, "dmsc/group/") || strings.HasPrefix(s.Cluster, "dmsc/neighbour/") || strings.HasPrefix(s.Cluster, "dmsc/probe/"))
	})
}

func headerLines(headers envoysim.Headers) []string {
	out := []string{}
	for _, h := range headers {
		out = append(out, h.Name+": "+h.Value)
	}
	return out
}

// add appends a passage and those behind it.
func (e *explanation) add(o *offline, s *envoysim.Step, r envoysim.Request) {
	d := s.Decision
	h := hop{
		Node: s.Node, Listener: d.Listener, Table: d.Table, Key: d.Key, VirtualHost: d.VirtualHost, Domain: d.Domain,
		Route: d.Route, Match: d.Condition, Status: s.Reply.Status, Error: s.Reply.Error(), Flag: s.Reply.Flag,
		Headers: headerLines(r.Headers), Shares: []shareOut{}, Tries: []tryOut{},
	}
	onPath := strings.Contains(d.Key, ">")
	if name := strings.TrimSuffix(serviceOf(d, r), "/"); d.VirtualHost != "" && d.Domain != "*" && !onPath {
		h.Why = o.why(s.Node, name)
	}
	for i, share := range d.Shares {
		out := shareOut{Cluster: share.Cluster, Weight: share.Weight, Chosen: i == s.Share, Hosts: []hostOut{}}
		for _, x := range share.Hosts {
			out.Hosts = append(out.Hosts, hostOut{x.Address, o.host(x.Address), x.Priority, x.Weight, x.Healthy, x.Checked})
		}
		h.Shares = append(h.Shares, out)
	}
	if retry := d.Retry; retry != nil {
		h.Retry = &retryOut{Times: retry.Times, On: retry.OnHeaders}
		if retry.ConnectFailure {
			h.Retry.On = append([]string{"no connection"}, h.Retry.On...)
		}
	}
	at := len(e.Hops)
	e.Hops = append(e.Hops, h)
	for _, t := range s.Tries {
		out := tryOut{Address: t.Host.Address, Is: o.host(t.Host.Address), Refused: t.Refused, Status: t.Reply.Status, Error: t.Reply.Error()}
		e.Hops[at].Tries = append(e.Hops[at].Tries, out)
		if t.Next != nil {
			e.add(o, t.Next, d.Shares[s.Share].Request)
		}
	}
}

// addWays lists where the request may go.
func (e *explanation) addWays(o *offline, r envoysim.Request) error {
	walks := 0
	for step, err := range o.Outcomes(e.Node, e.Listener, r) {
		if err != nil {
			return err
		}
		if way := wayOf(o, step); !slices.Contains(e.Ways, way) {
			e.Ways = append(e.Ways, way)
		}
		if walks++; len(e.Ways) == maxWays || walks == 50*maxWays {
			break
		}
	}
	slices.Sort(e.Ways)
	return nil
}

// wayOf names the nodes that led to the answer and who gave it.
func wayOf(o *offline, s *envoysim.Step) string {
	way := string(s.Node)
	if len(s.Tries) == 0 {
		return way + fmt.Sprintf(": %d %s", s.Reply.Status, s.Reply.Error())
	}
	switch t := s.Tries[len(s.Tries)-1]; {
	case t.Refused:
		return way + fmt.Sprintf(": %d %s", s.Reply.Status, s.Reply.Error())
	case t.Next != nil:
		return way + " " + wayOf(o, t.Next)
	default:
		return way + " " + cmp.Or(o.host(t.Host.Address), t.Host.Address)
	}
}

// serviceOf is the name that a table was looked up for: by an alias or on an
// explicit path it stands in another header than the key.
func serviceOf(d *envoysim.Decision, r envoysim.Request) string {
	if len(d.Shares) > 0 {
		r = d.Shares[0].Request
	}
	if name, ok := r.Headers.First("dmsc-service-prefix"); ok {
		return name
	}
	return d.Key
}

func reasonOf(e node.EntryStatus, steering []node.SteeringStatus) *reason {
	return &reason{
		Prefix: e.Prefix, Kind: e.Kind, Distance: e.Distance, Egress: e.Egress, Local: e.Local, NextHops: e.NextHops, Backup: e.Backup,
		NoBackup: e.NoBackup, Instances: append([]string{}, e.Instances...), Steering: steering,
	}
}

func (r *reason) String() string {
	text := r.Prefix + " " + r.Kind
	switch {
	case r.Local:
		text += ", local"
	default:
		text += fmt.Sprintf(", of %s at distance %d, by %s", comma(r.Egress), r.Distance, comma(r.NextHops))
		if len(r.Backup) > 0 {
			text += ", alternate " + comma(r.Backup)
		} else if r.NoBackup != "" {
			text += ", no alternate: " + r.NoBackup
		}
	}
	if len(r.Instances) > 0 {
		text += ", instances " + comma(r.Instances)
	}
	for _, s := range r.Steering {
		text += ", steered by policy " + s.PolicyID
		for _, p := range s.Paths {
			text += fmt.Sprintf(", %d%% along %s", p.WeightPercent, strings.Join(ids(p.Nodes), ">"))
		}
	}
	return text
}

func printExplanation(w io.Writer, e *explanation) error {
	var b strings.Builder
	target := e.Path
	if e.Method == "CONNECT" {
		target = ""
	}
	fmt.Fprintf(&b, "%s %s to %s of %s, for host %s", e.Method, cmp.Or(target, e.Authority), e.Listener, e.Node, e.Authority)
	for _, h := range e.Headers {
		fmt.Fprintf(&b, "\n  %s", h)
	}
	b.WriteByte('\n')
	for i, h := range e.Hops {
		fmt.Fprintf(&b, "\n%d %s %s\n", i+1, h.Node, h.Listener)
		h.print(&b)
	}
	b.WriteString("\nanswer ")
	switch a := e.Answer; {
	case a.Unknown:
		fmt.Fprintf(&b, "of %s, a node that is not among these; it gets\n", a.who())
		for _, h := range a.Headers {
			fmt.Fprintf(&b, "  %s\n", h)
		}
	case a.Bytes:
		fmt.Fprintf(&b, "%d, and from then on the bytes of %s, which gets the client's and no headers\n", a.Status, named(a.PodName, a.Pod))
	case a.Pod != "":
		fmt.Fprintf(&b, "%d of %s, which gets\n", a.Status, strings.TrimSpace(a.PodName+" "+a.Pod))
		for _, h := range a.Headers {
			fmt.Fprintf(&b, "  %s\n", h)
		}
	default:
		fmt.Fprintf(&b, "%d %s\n", a.Status, cmp.Or(a.Error, "without dmsc-error"))
	}
	if len(e.Ways) > 1 {
		fmt.Fprintf(&b, "\nways %s\n", strings.Join(e.Ways, "\n     "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (h *hop) print(b *strings.Builder) {
	row := func(key, format string, args ...any) {
		fmt.Fprintf(b, "  %-8s %s\n", key, fmt.Sprintf(format, args...))
	}
	switch {
	case h.Table == "":
	case h.VirtualHost == "":
		row("table", "%s, no virtual host for key %q", h.Table, h.Key)
	default:
		row("table", "%s, key %s", h.Table, h.Key)
		row("vhost", "%s, by domain %s", h.VirtualHost, h.Domain)
	}
	if h.Why != nil {
		row("because", "%s", h.Why)
	}
	if h.Route >= 0 {
		row("route", "%d, %s", h.Route, h.Match)
	}
	for _, s := range h.Shares {
		mark := ""
		if len(h.Shares) > 1 {
			mark = fmt.Sprintf(", weight %d", s.Weight)
			if s.Chosen {
				mark += ", taken"
			}
		}
		row("cluster", "%s%s", s.Cluster, mark)
		for _, x := range s.Hosts {
			health := "healthy"
			if !x.Healthy {
				health = "unhealthy"
			}
			if x.Checked {
				health += " unless its checks fail"
			}
			row("", "priority %d: %s, weight %d, %s", x.Priority, named(x.Is, x.Address), x.Weight, health)
		}
	}
	if h.Retry != nil && h.Retry.Times > 0 {
		row("retry", "%d times on %s", h.Retry.Times, strings.Join(h.Retry.On, ", "))
	}
	for _, t := range h.Tries {
		switch {
		case t.Refused:
			row("try", "%s: no connection", named(t.Is, t.Address))
		case t.Error != "":
			row("try", "%s: %d %s", named(t.Is, t.Address), t.Status, t.Error)
		default:
			row("try", "%s", named(t.Is, t.Address))
		}
	}
	if len(h.Tries) == 0 || h.Flag != "" {
		row("answers", "%s", strings.Join(strings.Fields(fmt.Sprintf("%d %s %s", h.Status, h.Flag, h.Error)), " "))
	}
}

func named(is, address string) string {
	if is == "" || is == address {
		return address
	}
	return is + " at " + address
}

// refusal says what to do about a request that no pod answers.
func (e *explanation) refusal(o *offline, node, name string) error {
	text := fmt.Sprintf("no pod answers: %d %s", e.Answer.Status, cmp.Or(e.Answer.Error, "without dmsc-error"))
	if strings.HasPrefix(e.Answer.Error, "no-route") && name != "" {
		var known []string
		for en := range o.ribs[dmsc.NodeID(node)].All() {
			if en.Kind != rib.Node {
				known = append(known, en.Prefix.String())
			}
		}
		text += fmt.Sprintf("; %s knows no prefix of %s%s", node, name, didYouMean(strings.ToLower(name), known))
	}
	return errors.New(text)
}
