package topology

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/manifest"
)

// Limits of a topology file.
const (
	MaxNodes    = 10_000
	maxLinks    = 40 * MaxNodes
	maxServices = 10 * MaxNodes
)

// The default ports (design §9). Node i of the file has nodePort + 10 × i and
// up; service i of the file has servicePort + i. A network that has too many of
// either for that is computed or simulated and nobody listens: what lies above
// the last default is port 0.
const (
	nodePort        = 15900
	servicePort     = 30000
	defaultNodes    = (servicePort - nodePort) / 10
	defaultServices = 1<<16 - servicePort
)

const defaultMetric dmsc.Metric = 10

type spec struct {
	AvoidTags []string   `yaml:"avoidTags"`
	Nodes     []nodeSpec `yaml:"nodes,required"`
	Links     []linkSpec `yaml:"links"`
	Pods      []podSpec  `yaml:"pods"`
}

type nodeSpec struct {
	Name    string    `yaml:"name,required"`
	Role    dmsc.Role `yaml:"role,required"`
	Transit *bool     `yaml:"transit"`
	Ingress string    `yaml:"ingress"`
	Fabric  string    `yaml:"fabric"`
	Admin   string    `yaml:"admin"`
	Probe   string    `yaml:"probe"`
}

type linkSpec struct {
	A             string             `yaml:"a,required"`
	B             string             `yaml:"b,required"`
	ID            string             `yaml:"id"`
	Metric        *uint32            `yaml:"metric"`
	ReverseMetric *uint32            `yaml:"reverseMetric"`
	Delay         manifest.Duration  `yaml:"delay"`
	Bandwidth     manifest.Bandwidth `yaml:"bandwidth"`
	Class         dmsc.LinkClass     `yaml:"class"`
	Tags          []string           `yaml:"tags"`
	OneWay        bool               `yaml:"oneWay"`
}

type podSpec struct {
	Name     string        `yaml:"name,required"`
	Gateway  string        `yaml:"gateway,required"`
	Services []serviceSpec `yaml:"services"`
}

type serviceSpec struct {
	Prefix     dmsc.ServicePrefix `yaml:"prefix,required"`
	Metric     uint32             `yaml:"metric"`
	Preference uint32             `yaml:"preference"`
	Weight     *uint32            `yaml:"weight"`
	Protocol   dmsc.Protocol      `yaml:"protocol"`
	Address    string             `yaml:"address"`
	Port       uint16             `yaml:"port"`
	HealthPath *string            `yaml:"healthPath"`
	ReplaySafe bool               `yaml:"replaySafe"`
}

// Load reads the one topology of a file.
func Load(path string) (*Topology, error) {
	docs, err := manifest.Load(path)
	if err != nil {
		return nil, err
	}
	return fromDocuments(path, docs)
}

// Parse is Load for text already read; file names it in errors.
func Parse(file string, data []byte) (*Topology, error) {
	docs, err := manifest.Parse(file, data)
	if err != nil {
		return nil, err
	}
	return fromDocuments(file, docs)
}

func fromDocuments(path string, docs []*manifest.Document) (*Topology, error) {
	if len(docs) == 0 {
		return nil, &manifest.Error{File: path, Code: manifest.CodeMissing, Msg: "there is no document of kind Topology"}
	}
	var faults []error
	for _, d := range docs[1:] {
		faults = append(faults, d.Errorf("$.kind", manifest.CodeKind, "a topology file holds one document"))
	}
	d := docs[0]
	if err := errors.Join(append(faults, d.Expect("Topology"))...); err != nil {
		return nil, err
	}
	var s spec
	if err := d.Decode(&s); err != nil {
		return nil, err
	}
	b := &builder{doc: d, nodes: map[dmsc.NodeID]dmsc.Role{}, listeners: listeners{}}
	t := b.build(&s)
	if err := errors.Join(b.faults...); err != nil {
		return nil, err
	}
	return t, nil
}

// builder turns the decoded text into a Topology and notes every fault.
type builder struct {
	doc       *manifest.Document
	faults    []error
	nodes     map[dmsc.NodeID]dmsc.Role
	listeners listeners
}

func (b *builder) faultf(path, code, format string, args ...any) {
	b.faults = append(b.faults, b.doc.Errorf(path, code, format, args...))
}

func (b *builder) build(s *spec) *Topology {
	t := &Topology{Name: b.doc.Name, AvoidTags: slices.Compact(slices.Sorted(slices.Values(s.AvoidTags)))}
	services := 0
	for _, p := range s.Pods {
		services += len(p.Services)
	}
	for _, limit := range []struct {
		path   string
		n, max int
	}{{"$.spec.nodes", len(s.Nodes), MaxNodes}, {"$.spec.links", len(s.Links), maxLinks}, {"$.spec.pods", services, maxServices}} {
		if limit.n > limit.max {
			b.faultf(limit.path, manifest.CodeTooMany, "%d entries, at most %d are allowed", limit.n, limit.max)
		}
	}
	if len(b.faults) > 0 {
		return nil
	}
	if len(s.Nodes) == 0 {
		b.faultf("$.spec.nodes", manifest.CodeMissing, "a topology has at least one node")
	}
	for i := range s.Nodes {
		t.Nodes = append(t.Nodes, b.node(i, &s.Nodes[i]))
	}
	t.Links = b.links(s.Links)
	t.Pods = b.pods(s.Pods)
	return t
}

func (b *builder) node(i int, s *nodeSpec) Node {
	at := fmt.Sprintf("$.spec.nodes[%d]", i)
	id, err := dmsc.ParseNodeID(s.Name)
	if err != nil {
		b.faultf(at+".name", manifest.CodeValue, "%v", err)
	} else if _, twice := b.nodes[id]; twice {
		b.faultf(at+".name", manifest.CodeDuplicate, "node %s is declared twice", id)
	} else {
		b.nodes[id] = s.Role
	}
	n := Node{ID: id, Role: s.Role}
	switch s.Role {
	case dmsc.RoleSG:
		n.Ingress = b.listener(at+".ingress", id, "ingress", s.Ingress, i, 0)
	case dmsc.RoleSR:
		n.Transit = true
		if s.Ingress != "" {
			b.faultf(at+".ingress", manifest.CodeConflict, "an SR has no pod-facing listener; remove ingress, or make %s an SG", id)
		}
	default:
		b.faultf(at+".role", manifest.CodeValue, "role %s is not one of SG, SR", s.Role)
	}
	if s.Transit != nil {
		n.Transit = *s.Transit
	}
	n.Fabric = b.listener(at+".fabric", id, "fabric", s.Fabric, i, 1)
	n.Admin = b.listener(at+".admin", id, "admin", s.Admin, i, 2)
	n.Probe = b.listener(at+".probe", id, "probe", s.Probe, i, 3)
	return n
}

func (b *builder) listener(path string, id dmsc.NodeID, name, given string, node, offset int) string {
	addr := given
	if addr == "" {
		port := 0
		if node < defaultNodes {
			port = nodePort + 10*node + offset
		}
		addr = fmt.Sprintf("127.0.0.1:%d", port)
	}
	unix := name == "admin" || name == "probe"
	if err := b.listeners.claim(addr, fmt.Sprintf("%s of node %s", name, id), unix); err != nil {
		b.faultf(path, manifest.CodeAddress, "%s: %v", name, err)
	}
	return addr
}

func (b *builder) links(specs []linkSpec) []Link {
	type end struct {
		near, far dmsc.NodeID
		id        dmsc.LinkID
	}
	seen := map[end]bool{}
	var links []Link
	for i, s := range specs {
		at := fmt.Sprintf("$.spec.links[%d]", i)
		l := Link{
			A: b.endpoint(at+".a", s.A), B: b.endpoint(at+".b", s.B), ID: "0",
			Metric: defaultMetric, Delay: time.Duration(s.Delay), Bandwidth: uint64(s.Bandwidth),
			Class: s.Class, Tags: s.Tags, OneWay: s.OneWay,
		}
		if l.A == l.B && l.A != "" {
			b.faultf(at+".b", manifest.CodeConflict, "the link leads from %s to itself", l.A)
		}
		if s.ID != "" {
			id, err := dmsc.ParseLinkID(s.ID)
			if err != nil {
				b.faultf(at+".id", manifest.CodeValue, "%v", err)
			}
			l.ID = id
		}
		b.metric(at+".metric", s.Metric, &l.Metric)
		l.ReverseMetric = l.Metric
		b.metric(at+".reverseMetric", s.ReverseMetric, &l.ReverseMetric)
		if s.OneWay && s.ReverseMetric != nil {
			b.faultf(at+".reverseMetric", manifest.CodeConflict, "a oneWay link has no reverse direction")
		}
		forth, back := end{l.A, l.B, l.ID}, end{l.B, l.A, l.ID}
		if seen[forth] || seen[back] {
			b.faultf(at, manifest.CodeDuplicate, "a link %s between %s and %s is declared already; parallel links need different ids", l.ID, l.A, l.B)
		}
		seen[forth] = true
		links = append(links, l)
	}
	return links
}

func (b *builder) endpoint(path, name string) dmsc.NodeID {
	if _, ok := b.nodes[dmsc.NodeID(name)]; !ok {
		b.faultf(path, manifest.CodeReference, "there is no node %q", name)
		return ""
	}
	return dmsc.NodeID(name)
}

func (b *builder) metric(path string, given *uint32, into *dmsc.Metric) {
	if given == nil {
		return
	}
	*into = dmsc.Metric(*given)
	if *into < 1 || *into > dmsc.MaxLinkMetric {
		b.faultf(path, manifest.CodeValue, "metric %d is not between 1 and %d", *given, dmsc.MaxLinkMetric)
	}
}

func (b *builder) pods(specs []podSpec) []Pod {
	names := map[string]bool{}
	// What one gateway announces of one prefix is one thing to the others.
	type announced struct {
		gateway dmsc.NodeID
		prefix  dmsc.ServicePrefix
	}
	protocols := map[announced]dmsc.Protocol{}
	ordinal := 0
	var pods []Pod
	for i, s := range specs {
		at := fmt.Sprintf("$.spec.pods[%d]", i)
		p := Pod{Name: s.Name}
		if _, err := dmsc.ParseNodeID(s.Name); err != nil { // one grammar for names
			b.faultf(at+".name", manifest.CodeValue, "a pod's name has 1 to 63 characters of a-z 0-9 and -, not %q", s.Name)
		}
		if names[s.Name] {
			b.faultf(at+".name", manifest.CodeDuplicate, "pod %s is declared twice", s.Name)
		}
		names[s.Name] = true
		p.Gateway = b.endpoint(at+".gateway", s.Gateway)
		if b.nodes[p.Gateway] == dmsc.RoleSR {
			b.faultf(at+".gateway", manifest.CodeConflict, "%s is an SR; a pod is linked to an SG", p.Gateway)
		}
		mine := map[dmsc.ServicePrefix]bool{}
		for j := range s.Services {
			at := fmt.Sprintf("%s.services[%d]", at, j)
			v := b.service(at, s.Name, ordinal, &s.Services[j])
			ordinal++
			if mine[v.Prefix] {
				b.faultf(at+".prefix", manifest.CodeDuplicate, "pod %s announces %s twice", s.Name, v.Prefix)
			}
			mine[v.Prefix] = true
			k := announced{p.Gateway, v.Prefix}
			if first, ok := protocols[k]; ok && first != v.Protocol {
				b.faultf(at+".protocol", manifest.CodeConflict, "another pod of %s announces %s as %s, this one as %s", p.Gateway, v.Prefix, first, v.Protocol)
			}
			protocols[k] = v.Protocol
			p.Services = append(p.Services, v)
		}
		pods = append(pods, p)
	}
	return pods
}

func (b *builder) service(at, pod string, ordinal int, s *serviceSpec) Service {
	v := Service{
		Prefix: s.Prefix, Metric: dmsc.Metric(s.Metric), Preference: s.Preference, Weight: 1,
		Protocol: s.Protocol, Address: s.Address, Port: s.Port, ReplaySafe: s.ReplaySafe,
	}
	if s.Prefix.Reserved() {
		b.faultf(at+".prefix", manifest.CodePrefix, "%s belongs to the network itself and cannot be announced", s.Prefix)
	}
	if v.Metric > dmsc.MaxLinkMetric {
		b.faultf(at+".metric", manifest.CodeValue, "metric %d is not between 0 and %d", s.Metric, dmsc.MaxLinkMetric)
	}
	if s.Weight != nil {
		v.Weight = *s.Weight
		if v.Weight < 1 || v.Weight > math.MaxUint16 {
			b.faultf(at+".weight", manifest.CodeValue, "weight %d is not between 1 and %d", v.Weight, math.MaxUint16)
		}
	}
	if v.Address == "" {
		v.Address = "127.0.0.1"
	}
	if v.Port == 0 && ordinal < defaultServices {
		v.Port = uint16(servicePort + ordinal)
	}
	// One process may serve several prefixes of its pod at one address.
	if err := b.listeners.claim(hostPort(v.Address, v.Port), "pod "+pod, false); err != nil {
		b.faultf(at, manifest.CodeAddress, "%v", err)
	}
	switch {
	case s.HealthPath == nil && v.Protocol != dmsc.TCP:
		v.HealthPath = "/healthz"
	case s.HealthPath == nil || *s.HealthPath == "-":
	case (*s.HealthPath)[:min(1, len(*s.HealthPath))] != "/":
		b.faultf(at+".healthPath", manifest.CodeValue, "healthPath %q does not start with /; write - for no check", *s.HealthPath)
	default:
		v.HealthPath = *s.HealthPath
	}
	return v
}
