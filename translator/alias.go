package translator

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// Alias makes requests for a host, or for a path of it, enter as a prefix. Of
// several aliases of a host the one with the longest path decides.
type Alias struct {
	Name string // of the document
	Host string // see CheckHost
	// Path is matched by whole segments: "/api" covers /api and /api/x, not
	// /apis. "" is every path, and CONNECT.
	Path   string
	Prefix dmsc.ServicePrefix
	// StripPath takes Path off before the request goes on: /api/x becomes /x.
	StripPath bool
	From      Side // whose requests; none is nobody's
}

// Side says who a listener is for.
type Side uint8

// The sides of a gateway that requests without a service prefix come from.
const (
	Pods    Side = 1 << iota // the ingress
	Outside                  // clients that are not of the mesh
)

// Validate reports whether Envoy can tell the requests of the alias by its host
// and path. Check what comes from outside before it enters a State.
func (a Alias) Validate() error {
	if err := errors.Join(CheckHost(a.Host), CheckPath(a.Path)); err != nil {
		return fmt.Errorf("alias of %s: %w", a.Prefix, err)
	}
	return nil
}

// CheckHost reports whether host can stand in a route table: 1 to 253 of
// a-z 0-9 . _ -, in any case, without a port and a dot at either end.
func CheckHost(host string) error {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789._-"
	if host == "" || len(host) > 253 || strings.Trim(strings.ToLower(host), alphabet) != "" || strings.Trim(host, ".") != host {
		return fmt.Errorf("%q is not a host name (a-z 0-9 . _ -, no port)", host)
	}
	return nil
}

// CheckPath reports whether path is "" or can stand for itself and what is below
// it: "/api/v1", in the form that requests have after normalization, without
// escapes, empty and dot segments and a slash at its end.
func CheckPath(path string) error {
	if path == "" {
		return nil
	}
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return fmt.Errorf("path %q does not begin with a slash", path)
	}
	if len(path) > 1024 {
		return fmt.Errorf("the path has %d bytes, at most 1024 are allowed", len(path))
	}
	for segment := range strings.SplitSeq(rest, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("path %q has an empty or a dot segment, or a slash at its end", path)
		}
	}
	if !pathText.MatchString(path) {
		return fmt.Errorf("path %q has other characters than a-z A-Z 0-9 / - . _ ~ ! $ & ' ( ) * + , ; = : @", path)
	}
	return nil
}

// pathText is RFC 3986 §3.3 without escapes.
var pathText = regexp.MustCompile(`^[a-zA-Z0-9/\-._~!$&'()*+,;=:@]+$`)

// byHost makes the virtual hosts of requests of pods that name no service
// prefix: the border has made "host:<authority>" their key.
func (b *builder) byHost() []*routev3.VirtualHost {
	var hosts []*routev3.VirtualHost
	for _, aliases := range b.aliasesOf(Pods) {
		key := strings.ToLower(aliases[0].Host)
		hosts = append(hosts, &routev3.VirtualHost{
			Name:    aliasHost(aliases[0]),
			Domains: []string{hostPrefix + key + keyEnd, hostPrefix + key + ":*"},
			Routes:  append(b.enterByHost(aliases), bothWays(b.unknownHost)...),
		})
	}
	hosts = append(hosts, b.externalHosts()...)
	for _, h := range hosts {
		host, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(h.Domains[0], hostPrefix), keyEnd), ":")
		h.Routes = append(bothWays(func(c class) *routev3.Route { return b.notOfHost(c, host) }), h.Routes...)
	}
	return append(hosts, &routev3.VirtualHost{
		Name:    "dmsc/no-prefix",
		Domains: []string{hostPrefix + "*"},
		Routes:  bothWays(b.unknownHost),
	})
}

// notOfHost refuses a request of another host. Its service prefix is not from the
// border but a pod's own, "host:…", to have one host named and another served.
func (b *builder) notOfHost(c class, host string) *routev3.Route {
	other := headerMatches(":authority", &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: "(?i)" + regexp.QuoteMeta(host) + "(:.*)?"},
	}})
	other.InvertMatch = true
	return b.refuse(c, 404, codeNoPrefix, "host:"+host+" is no service prefix", other)
}

// unknownHost says what would let a request in, or out. One that a pod meant
// for the mesh and one for a host outside look alike, unless it is a CONNECT.
func (b *builder) unknownHost(c class) *routev3.Route {
	if c == classTCP {
		return b.notAllowed(c, "no service prefix, and no ExternalService (protocol: tcp) of "+string(b.Node)+" allows CONNECT to this host and port")
	}
	return b.refuse(c, 404, codeNoPrefix, "no service prefix, and no HostAlias or ExternalService of "+string(b.Node)+" for this host and path")
}

// aliasesOf are the aliases of one side, those of a host together, longest path
// first, the hosts sorted.
func (b *builder) aliasesOf(side Side) [][]Alias {
	aliases := slices.DeleteFunc(slices.Clone(b.Aliases), func(a Alias) bool { return a.From&side == 0 })
	slices.SortFunc(aliases, func(x, y Alias) int {
		return cmp.Or(strings.Compare(strings.ToLower(x.Host), strings.ToLower(y.Host)), cmp.Compare(len(y.Path), len(x.Path)), strings.Compare(x.Path, y.Path))
	})
	var hosts [][]Alias
	for len(aliases) > 0 {
		n := slices.IndexFunc(aliases, func(a Alias) bool { return !strings.EqualFold(a.Host, aliases[0].Host) })
		if n < 0 {
			n = len(aliases)
		}
		hosts = append(hosts, aliases[:n])
		aliases = aliases[n:]
	}
	return hosts
}

// enterByHost makes the routes of the aliases of one host.
func (b *builder) enterByHost(aliases []Alias) []*routev3.Route {
	var routes []*routev3.Route
	for _, a := range aliases {
		routes = append(routes, b.alias(a)...)
	}
	return routes
}

// alias makes requests enter as if they had named the prefix.
func (b *builder) alias(a Alias) []*routev3.Route {
	host := &routev3.VirtualHost{Routes: bothWays(b.noRoute)}
	if e := b.lookup(a.Prefix); e != nil {
		host = b.enter("", e)
	}
	var routes []*routev3.Route
	for _, r := range host.Routes {
		if a.Path != "" {
			if r.Match.GetConnectMatcher() != nil {
				continue // a CONNECT has no path
			}
			r.Match.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: a.Path}
		}
		r.RequestHeadersToAdd = append(r.RequestHeadersToAdd, setHeader(headerPrefix, a.Prefix.String()))
		if action := r.GetRoute(); action != nil {
			action.RetryPolicy = host.RetryPolicy
			if a.StripPath {
				action.RegexRewrite = &matcherv3.RegexMatchAndSubstitute{
					Pattern:      &matcherv3.RegexMatcher{Regex: "^" + regexp.QuoteMeta(a.Path) + "/?"},
					Substitution: "/",
				}
			}
		}
		routes = append(routes, r)
	}
	return routes
}
