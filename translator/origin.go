package translator

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// OriginKind says what an Origin is.
type OriginKind string

// The kinds of origins.
const (
	OriginPrefix   OriginKind = "prefix"           // announced by Nodes, or by a pod of this node
	OriginLink     OriginKind = "link"             // of this node
	OriginPolicy   OriginKind = "policy"           // of the SCSC
	OriginAlias    OriginKind = "alias"            // a HostAlias of this node's documents
	OriginExternal OriginKind = "external_service" // an ExternalService of this node's documents
	OriginSetting  OriginKind = "setting"          // of this node's configuration
)

// Origin is something in the State that a resource was made from.
type Origin struct {
	Kind OriginKind
	// Name is the prefix, the link ("sr-1", "sr-1#2"), the id of the policy, the
	// host and path of the HostAlias, the name of the ExternalService or the key of
	// the setting.
	Name string
	// Prefix is the origin itself, or the one that a policy steers and an alias
	// stands for.
	Prefix dmsc.ServicePrefix
	Nodes  []dmsc.NodeID // who announces the prefix, sorted
	Detail string        // the address, or the host and port, if there is one
}

// String is the origin in words.
func (o Origin) String() string {
	out := string(o.Kind) + " " + o.Name
	switch {
	case o.Kind == OriginPrefix && len(o.Nodes) > 0:
		var at []string
		for _, n := range o.Nodes {
			at = append(at, string(n))
		}
		out += " of " + strings.Join(at, " ")
	case o.Kind == OriginPolicy:
		out += " for " + o.Prefix.String()
	case o.Kind == OriginAlias:
		out += " of " + o.Prefix.String()
	}
	if o.Detail != "" {
		out += " (" + o.Detail + ")"
	}
	return out
}

// MaxOrigins bounds the origins of one resource that are named.
const MaxOrigins = 8

// Origins says what a resource of this State was made from, and of a route table
// what the part of it was made from that words name: they are Envoy's, and may
// quote a virtual host or a domain. kind is "clusters", "endpoints", "routes" or
// "listeners". At most MaxOrigins are returned; others counts the rest. None
// means that the State does not tell: a whole route table comes of everything.
func (s State) Origins(kind, name, words string) (origins []Origin, others int) {
	f := finder{State: s}
	switch kind {
	case "listeners":
		f.listener(name)
	case "routes":
		for _, w := range quoted(words) {
			if w != name {
				f.part(w)
			}
		}
	default:
		f.part(name)
	}
	return f.found, f.others
}

type finder struct {
	State
	found  []Origin
	others int
}

func (f *finder) add(o Origin) {
	same := func(p Origin) bool { return p.Kind == o.Kind && p.Name == o.Name }
	switch {
	case slices.ContainsFunc(f.found, same):
	case len(f.found) < MaxOrigins:
		f.found = append(f.found, o)
	default:
		f.others++
	}
}

// listener: they follow from the configuration alone.
func (f *finder) listener(name string) {
	key, addr := "", ""
	switch name {
	case ingressName:
		key, addr = "envoy.ingress", f.Addrs.Ingress
	case outsideName:
		key, addr = "outside.listen", f.Outside.Address
	case fabricName:
		key, addr = "envoy.fabric", f.Addrs.Fabric
	case probeName:
		key, addr = "envoy.probe", f.Addrs.Probe
	default:
		return
	}
	f.add(Origin{Kind: OriginSetting, Name: key, Detail: addr})
}

// part finds what a cluster, a virtual host or a domain comes of, by the names
// that name.go and the tables give them.
func (f *finder) part(name string) {
	for _, s := range f.Steering {
		if name == policyHost(s.Prefix) {
			f.add(Origin{Kind: OriginPolicy, Name: s.PolicyID, Prefix: s.Prefix})
			f.prefix(f.entry(s.Prefix.String()))
			return
		}
	}
	for _, a := range f.Aliases {
		if name == aliasHost(a) {
			f.add(Origin{Kind: OriginAlias, Name: a.Host + a.Path, Prefix: a.Prefix})
		}
	}
	for _, e := range f.Externals {
		if host := externalHost(e); name == externalClusterName(e) || name == host || name == host+"/"+e.port() {
			f.add(Origin{Kind: OriginExternal, Name: e.Name, Detail: e.Host + ":" + e.port()})
		}
	}
	for _, n := range f.Neighbours {
		if name == NeighbourCluster(n.Remote) || name == probeClusterName(n.LinkKey) {
			f.link(n)
		}
	}
	if rest, ok := strings.CutPrefix(name, groupPrefix); ok {
		f.group(rest)
		return
	}
	for _, of := range []string{localPrefix, poolPrefix, functionPrefix} {
		if rest, ok := strings.CutPrefix(name, of); ok {
			f.prefix(f.entry(strings.ReplaceAll(rest, "!", ".")))
			return
		}
	}
	// A word that is no name with a slash may be one of Envoy's own.
	if name = strings.TrimSuffix(strings.TrimSuffix(name, "*"), "/"); strings.Contains(name, "/") {
		f.prefix(f.entry(name))
	}
}

// group is the name of one, or "<group>/<class>" for its virtual host, with
// "/<number>" if it has several.
func (f *finder) group(name string) {
	if f.RIB == nil {
		return
	}
	bare, rest, _ := strings.Cut(name, "/")
	host, _, _ := strings.Cut(rest, "/")
	i := slices.IndexFunc(f.RIB.Groups, func(g *rib.Group) bool { return g.Name == bare })
	if i < 0 {
		if i = slices.IndexFunc(f.Retired, func(g *rib.Group) bool { return g.Name == bare }); i >= 0 {
			f.members(f.Retired[i])
		}
		return
	}
	f.members(f.RIB.Groups[i])
	for e := range f.RIB.All() {
		if e.Group != nil && e.Group.Name == bare && (host == "" || host == string(classOf(e))) {
			f.prefix(e)
		}
	}
}

func (f *finder) members(g *rib.Group) {
	for _, h := range slices.Concat(g.Primaries, g.Backup) {
		for _, n := range f.Neighbours {
			if n.LinkKey == h.LinkKey {
				f.link(n)
			}
		}
	}
}

func (f *finder) link(n Neighbour) {
	f.add(Origin{Kind: OriginLink, Name: n.LinkKey.String(), Nodes: []dmsc.NodeID{n.Remote}, Detail: n.Data})
}

// entry is the one of that very name, nil for none.
func (f *finder) entry(name string) *rib.Entry {
	if f.RIB == nil {
		return nil
	}
	if e := f.RIB.Lookup(name); e != nil && e.Prefix.String() == name {
		return e
	}
	return nil
}

func (f *finder) prefix(e *rib.Entry) {
	if e == nil {
		return
	}
	o := Origin{Kind: OriginPrefix, Name: e.Prefix.String(), Prefix: e.Prefix, Nodes: e.Egress}
	if e.Local {
		var at []string
		for _, s := range f.Services {
			if s.Prefix == e.Prefix || slices.Contains(e.Instances, s.Prefix) {
				at = append(at, s.Address)
			}
		}
		o.Detail = strings.Join(at[:min(len(at), MaxOrigins)], " ")
		if rest := len(at) - MaxOrigins; rest > 0 {
			o.Detail += fmt.Sprintf(" +%d", rest)
		}
	}
	f.add(o)
}

// quoted are the words that may be names of ours, sorted, each once.
func quoted(words string) []string {
	out := strings.FieldsFunc(words, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_~./!#+*", r))
	})
	for i, w := range out {
		out[i] = strings.Trim(w, ".")
	}
	slices.SortFunc(out, cmp.Compare[string])
	return slices.Compact(out)
}
