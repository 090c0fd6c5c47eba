package xds

import (
	"crypto/sha256"
	"fmt"
	"hash/maphash"
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
	name    string
	message weak.Pointer[routev3.VirtualHost]
	wire    []byte // the field of the table with this host: a part of the table's bytes
	sum     [sha256.Size]byte
	refs    []ref
	domains []uint64 // see domainHashes
}

// virtualHosts is the number of that field.
var virtualHosts = protowire.Number((*routev3.RouteConfiguration)(nil).ProtoReflect().Descriptor().Fields().ByName("virtual_hosts").Number())

// compileTable is compileResource for a route table. Its bytes are all other
// fields and then the virtual hosts, in their order; its version is the hash of
// their hashes.
func compileTable(name string, rc *routev3.RouteConfiguration, last *resource, v *validator) (*resource, error) {
	known := make(map[string]*host)
	if last != nil {
		for i := range last.hosts {
			known[last.hosts[i].name] = &last.hosts[i]
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
	domains := make([][]uint64, len(hosts))
	var fresh []uint64 // of domains
	size := len(wire)
	for i, vh := range rc.GetVirtualHosts() {
		k := known[vh.GetName()]
		if k != nil && k.message == weak.Make(vh) {
			hosts[i] = *k
		} else {
			if hosts[i], err = compileHost(name, vh, v); err != nil {
				return nil, err
			}
			if k == nil {
				k = new(host)
			}
			fresh = append(fresh, unlike(hosts[i].domains, k.domains)...)
		}
		domains[i] = hosts[i].domains
		size += len(hosts[i].wire)
		sum.Write(hosts[i].sum[:])
		for _, r := range hosts[i].refs {
			refs[r] = struct{}{}
		}
	}
	v.unique(Routes, name, rc, domains, fresh)

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
	return host{
		name: vh.GetName(), message: weak.Make(vh), wire: wire, sum: sha256.Sum256(wire),
		refs: sortedRefs(refs), domains: domainHashes(vh),
	}, err
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

var hashSeed = maphash.MakeSeed()

// domainHashes are hashes of the domains, in their order. Envoy ignores case.
func domainHashes(vh *routev3.VirtualHost) []uint64 {
	hashes := make([]uint64, len(vh.GetDomains()))
	for i, d := range vh.GetDomains() {
		hashes[i] = maphash.String(hashSeed, strings.ToLower(d))
	}
	return hashes
}

// unlike is the middle of a, without what it begins and ends with as b does.
func unlike(a, b []uint64) []uint64 {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a
}

// unique finds what the generated checks do not see and Envoy refuses: a virtual
// host name or a domain that appears twice. The hashes of all domains are given,
// and fresh: what is not in it has been in one valid table with the rest.
func (v *validator) unique(t Type, name string, rc *routev3.RouteConfiguration, domains [][]uint64, fresh []uint64) {
	names := make(map[string]struct{}, len(domains))
	for _, vh := range rc.GetVirtualHosts() {
		if _, twice := names[vh.GetName()]; twice {
			v.fault("%s %s: virtual host %s: defined twice", t, name, vh.GetName())
		}
		names[vh.GetName()] = struct{}{}
	}
	// Nearly all of a large table is passed by with one look at the filter.
	const filterBits = 1 << 16
	var filter [filterBits / 64]uint64
	count := make(map[uint64]int, len(fresh))
	for _, h := range fresh {
		count[h] = 0
		filter[h%filterBits/64] |= 1 << (h % 64)
	}
	twice := false
	for _, hashes := range domains {
		for _, h := range hashes {
			if filter[h%filterBits/64]&(1<<(h%64)) == 0 {
				continue
			}
			if n, ok := count[h]; ok {
				count[h] = n + 1
				twice = twice || n > 0
			}
		}
	}
	if !twice {
		return
	}
	first := make(map[string]*routev3.VirtualHost) // with this domain
	for i, vh := range rc.GetVirtualHosts() {
		for j, d := range vh.GetDomains() {
			if count[domains[i][j]] < 2 {
				continue
			}
			d = strings.ToLower(d)
			if other := first[d]; other != nil {
				v.fault("%s %s: domain %q is in the virtual hosts %s and %s", t, name, d, other.GetName(), vh.GetName())
				continue
			}
			first[d] = vh
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
