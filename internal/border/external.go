package border

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/manifest"
	"github.com/dmsc-mesh/dmsc/translator"
)

// KindExternal is the kind of documents that let requests out.
const KindExternal = "ExternalService"

// Defaults of an ExternalService.
const (
	defaultRetries = 2
	// defaultCA is where Debian, Ubuntu, Alpine and Arch keep the roots.
	defaultCA = "/etc/ssl/certs/ca-certificates.crt"
)

// maxRetries bounds what one request can become.
const maxRetries = 5

// externalSpec is the YAML form.
type externalSpec struct {
	Hosts    []string `yaml:"hosts,required"`
	Port     uint16   `yaml:"port,required"`
	Protocol string   `yaml:"protocol"`
	TLS      *struct {
		SNI string `yaml:"sni"`
		CA  string `yaml:"ca"`
	} `yaml:"tls"`
	Endpoints  []string          `yaml:"endpoints"`
	Timeout    manifest.Duration `yaml:"timeout"`
	Retries    *uint32           `yaml:"retries"`
	AllowLocal bool              `yaml:"allowLocal"`
}

var protocols = map[string]dmsc.Protocol{"http1": dmsc.HTTP1, "http2": dmsc.HTTP2, "tcp": dmsc.TCP}

func (r *reader) external() {
	s := externalSpec{Protocol: "http1"}
	if err := r.doc.Decode(&s); err != nil {
		r.fault(err)
		return
	}
	e := translator.External{Name: r.doc.Name, Port: s.Port, Endpoints: s.Endpoints, Timeout: time.Duration(s.Timeout), Retries: defaultRetries}
	if s.Port == 0 {
		r.faultf(".port", manifest.CodeValue, "port 0 is no port, 1 to 65535 are")
	}
	protocol, ok := protocols[s.Protocol]
	if !ok {
		r.faultf(".protocol", manifest.CodeValue, "%q is none of http1, http2, tcp", s.Protocol)
	}
	e.Protocol = protocol
	if protocol == dmsc.TCP {
		r.rawOnly()
	}
	if s.Retries != nil {
		e.Retries = *s.Retries
		if e.Retries > maxRetries {
			r.faultf(".retries", manifest.CodeValue, "%d retries, at most %d are allowed", e.Retries, maxRetries)
		}
	}
	if s.TLS != nil {
		e.CA = defaultCA
		if s.TLS.CA != "" {
			e.CA = s.TLS.CA
		}
		if !strings.HasPrefix(e.CA, "/") {
			r.faultf(".tls.ca", manifest.CodeValue, "%q is no absolute path; Envoy and its agent have to find the same file", e.CA)
		}
		if s.TLS.SNI != "" {
			r.host(".tls.sni", s.TLS.SNI)
		}
	}
	if s.Endpoints != nil && len(s.Endpoints) == 0 {
		r.faultf(".endpoints", manifest.CodeMissing, "endpoints is empty; write at least one, or leave it out to send requests to the hosts themselves")
	}
	for i, endpoint := range s.Endpoints {
		at := fmt.Sprintf(".endpoints[%d]", i)
		if _, err := netip.ParseAddr(endpoint); err != nil {
			endpoint = r.host(at, endpoint)
		}
		r.target(at, endpoint, s.AllowLocal)
	}
	if len(s.Hosts) == 0 {
		r.faultf(".hosts", manifest.CodeMissing, "hosts is empty, write at least one")
	}
	for i, host := range s.Hosts {
		at := fmt.Sprintf(".hosts[%d]", i)
		e.Host = r.host(at, host)
		if len(s.Endpoints) == 0 {
			r.target(at, e.Host, s.AllowLocal)
		}
		if s.TLS != nil {
			e.ServerName = e.Host
			if s.TLS.SNI != "" {
				e.ServerName = strings.ToLower(s.TLS.SNI)
			} else if _, err := netip.ParseAddr(host); err == nil {
				r.faultf(".tls", manifest.CodeMissing, "%s is an address; say in sni which name its certificate has", host)
			}
		}
		way := "requests"
		if protocol == dmsc.TCP {
			way = "CONNECT"
		}
		r.owns(e.Host, at)
		r.claim(fmt.Sprintf("%s %s:%d", way, e.Host, e.Port), at, fmt.Sprintf("%s to %s:%d", way, e.Host, e.Port))
		r.set.Externals = append(r.set.Externals, e)
	}
}

// rawOnly refuses what means nothing for bytes that nobody looks into.
func (r *reader) rawOnly() {
	for _, key := range []string{"retries", "timeout", "tls"} {
		if r.doc.Has("$.spec." + key) {
			r.faultf("."+key, manifest.CodeConflict, "%s is for http1 and http2; with protocol tcp the bytes of a pod pass as they are", key)
		}
	}
}

// target checks an address, or a name in lower case, that requests are sent to. What is local to
// the gateway is no outside: its own admin listener answers there, or the
// metadata service of its cloud.
func (r *reader) target(path, text string, allowLocal bool) {
	local := func(what string) {
		if !allowLocal {
			r.faultf(path, CodeLocal, "%s is %s; write allowLocal: true if that is meant", text, what)
		}
	}
	ip, err := netip.ParseAddr(text)
	switch last := text[strings.LastIndexByte(text, '.')+1:]; {
	case err == nil && ip.Zone() != "":
		r.faultf(path, CodeHost, "%q has a zone; write the address without", text)
	case err == nil:
		switch ip = embedded(ip); {
		case ip.IsUnspecified(), ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			r.faultf(path, CodeLocal, "%s is no address of a host", text)
		case ip.IsLoopback():
			local("this machine itself")
		case ip.IsLinkLocalUnicast():
			local("link-local, as cloud metadata services are")
		}
	case text == "localhost", strings.HasSuffix(text, ".localhost"):
		local("this machine itself")
	case strings.Trim(last, "0123456789") == "" && last != "", strings.HasPrefix(last, "0x"):
		// 2130706433, 127.1, 0x7f.1: resolvers take such for addresses.
		r.faultf(path, CodeHost, "%q ends in a number and is no address", text)
	}
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052 §2.1
	nat64Own   = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")      // RFC 3056 §2
	compatible = netip.MustParsePrefix("::/96")          // RFC 4291 §2.5.5.1
)

// embedded is the IPv4 address that a gateway or the kernel takes an IPv6
// address for, or the address itself.
func embedded(ip netip.Addr) netip.Addr {
	bytes := ip.As16()
	switch {
	case ip.Is4In6():
	case ip.Is4(), ip.IsUnspecified(), ip.IsLoopback():
		return ip
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(bytes[2:6]))
	case !nat64.Contains(ip) && !nat64Own.Contains(ip) && !compatible.Contains(ip):
		return ip
	}
	return netip.AddrFrom4([4]byte(bytes[12:]))
}
