package xds

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"weak"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// A route table can have hundreds of thousands of domains, and a change touches
// one or two of its virtual hosts. A table is therefore compiled by virtual
// host: one that is the same message as in the last set keeps its bytes, and is
// not validated again.

// host is one virtual host of a table, compiled.
type host struct {
	message weak.Pointer[routev3.VirtualHost]
	wire    []byte // the field of the table with this host: a part of the table's bytes
	sum     [sha256.Size]byte
	refs    []ref
}

// virtualHosts is the number of that field.
var virtualHosts = protowire.Number((*routev3.RouteConfiguration)(nil).ProtoReflect().Descriptor().Fields().ByName("virtual_hosts").Number())

// compileTable is compileResource for a route table. Its bytes are all other
// fields and then the virtual hosts, in their order; its version is the hash of
// their hashes.
func compileTable(name string, rc *routev3.RouteConfiguration, last *resource, v *validator) (*resource, error) {
	known := make(map[weak.Pointer[routev3.VirtualHost]]*host)
	if last != nil {
		for i := range last.hosts {
			known[last.hosts[i].message] = &last.hosts[i]
		}
	}
	frame := without(rc, "virtual_hosts")
	wire, err := deterministic.Marshal(frame)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%d\x00%s", len(wire), wire)
	refs := make(map[ref]struct{})
	v.message(Routes, name, frame)
	v.mirrors(rc.GetRequestMirrorPolicies(), refs)

	hosts := make([]host, len(rc.GetVirtualHosts()))
	var fresh []*routev3.VirtualHost
	size := len(wire)
	for i, vh := range rc.GetVirtualHosts() {
		if k := known[weak.Make(vh)]; k != nil {
			hosts[i] = *k
		} else {
			fresh = append(fresh, vh)
			if hosts[i], err = compileHost(name, vh, v); err != nil {
				return nil, err
			}
		}
		size += len(hosts[i].wire)
		sum.Write(hosts[i].sum[:])
		for _, r := range hosts[i].refs {
			refs[r] = struct{}{}
		}
	}
	v.unique(Routes, name, rc, fresh)

	r := &resource{name: name, version: fmt.Sprintf("%x", sum.Sum(nil)[:8]), message: weak.Make(rc), refs: sortedRefs(refs), hosts: hosts}
	if last != nil && last.version == r.version {
		r.wire = last.wire // equal content, made anew
	} else {
		wire = append(make([]byte, 0, size), wire...)
		for _, h := range hosts {
			wire = append(wire, h.wire...)
		}
		r.wire = &discoveryv3.Resource{Name: name, Version: r.version, Resource: &anypb.Any{TypeUrl: Routes.URL(), Value: wire}}
	}
	// From now on the hosts are parts of this table, and keep no older one.
	rest := r.wire.Resource.Value
	for i := len(hosts) - 1; i >= 0; i-- {
		start := len(rest) - len(hosts[i].wire)
		rest, hosts[i].wire = rest[:start], rest[start:]
	}
	return r, nil
}

func compileHost(table string, vh *routev3.VirtualHost, v *validator) (host, error) {
	refs := make(map[ref]struct{})
	v.host(Routes, table, vh, refs)
	wire := protowire.AppendTag(nil, virtualHosts, protowire.BytesType)
	wire = protowire.AppendVarint(wire, uint64(proto.Size(vh)))
	wire, err := deterministic.MarshalAppend(wire, vh)
	return host{message: weak.Make(vh), wire: wire, sum: sha256.Sum256(wire), refs: sortedRefs(refs)}, err
}

// host checks one virtual host by itself.
func (v *validator) host(t Type, name string, vh *routev3.VirtualHost, refs map[ref]struct{}) {
	// The generated check matches each domain with a regular expression, which
	// is most of the cost of a large table. Only what is not plain goes there.
	checked := vh
	if len(vh.GetDomains()) > 1 {
		checked = without(vh, "domains")
		checked.Domains = []string{"*"}
		for _, d := range vh.GetDomains() {
			if !plain(d) {
				checked.Domains = append(checked.Domains, d)
			}
		}
	}
	v.message(t, name, checked)
	v.mirrors(vh.GetRequestMirrorPolicies(), refs)
	for _, r := range vh.GetRoutes() {
		action := r.GetRoute()
		if c := action.GetCluster(); c != "" {
			refs[ref{Clusters, c}] = struct{}{}
		}
		for _, w := range action.GetWeightedClusters().GetClusters() {
			if w.GetName() != "" {
				refs[ref{Clusters, w.GetName()}] = struct{}{}
			}
		}
		v.mirrors(action.GetRequestMirrorPolicies(), refs)
	}
}

// plain: printable ASCII, which no check refuses.
func plain(domain string) bool {
	for i := range len(domain) {
		if c := domain[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// unique finds what the generated checks do not see and Envoy refuses: a virtual
// host name or a domain that appears twice. Whatever is not in fresh has been in
// one valid table with the rest.
func (v *validator) unique(t Type, name string, rc *routev3.RouteConfiguration, fresh []*routev3.VirtualHost) {
	names := make(map[string]struct{}, len(rc.GetVirtualHosts()))
	for _, vh := range rc.GetVirtualHosts() {
		if _, twice := names[vh.GetName()]; twice {
			v.fault("%s %s: virtual host %s: defined twice", t, name, vh.GetName())
		}
		names[vh.GetName()] = struct{}{}
	}
	first := make(map[string]*routev3.VirtualHost) // with this domain; nil: not met yet
	var lengths [256]bool                          // of the domains in first: a look at the others must be cheap
	for _, vh := range fresh {
		for _, d := range vh.GetDomains() {
			first[strings.ToLower(d)], lengths[len(d)%256] = nil, true
		}
	}
	for _, vh := range rc.GetVirtualHosts() {
		for _, d := range vh.GetDomains() {
			if !lengths[len(d)%256] {
				continue
			}
			d = strings.ToLower(d)
			if other, ok := first[d]; !ok {
				continue
			} else if other != nil {
				v.fault("%s %s: domain %q is in the virtual hosts %s and %s", t, name, d, other.GetName(), vh.GetName())
			} else {
				first[d] = vh
			}
		}
	}
}

// without returns a copy of m that lacks one field and shares the others.
func without[M proto.Message](m M, field protoreflect.Name) M {
	from := m.ProtoReflect()
	to := from.New()
	from.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Name() != field {
			to.Set(fd, v)
		}
		return true
	})
	to.SetUnknown(from.GetUnknown())
	return to.Interface().(M)
}
