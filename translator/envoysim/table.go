package envoysim

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// table is a RouteConfiguration with Envoy's host table: exact domains, then
// suffix wildcards (*x), then prefix wildcards (x*), longer ones first, then
// "*". A wildcard stands for at least one character.
type table struct {
	*routev3.RouteConfiguration
	exact    map[string]*routev3.VirtualHost
	suffixes wildcards
	prefixes wildcards
	any      *routev3.VirtualHost
}

// wildcards are virtual hosts by what their domain has beside the star, lower
// case, and the lengths that occur, longest first.
type wildcards struct {
	hosts   map[string]*routev3.VirtualHost
	lengths []int
}

func (w *wildcards) add(text string, host *routev3.VirtualHost) {
	if w.hosts == nil {
		w.hosts = make(map[string]*routev3.VirtualHost)
	}
	w.hosts[text] = host
	if i, found := slices.BinarySearchFunc(w.lengths, len(text), func(a, b int) int { return b - a }); !found {
		w.lengths = slices.Insert(w.lengths, i, len(text))
	}
}

func (n *Node) addTable(config *routev3.RouteConfiguration) error {
	t := &table{RouteConfiguration: config, exact: make(map[string]*routev3.VirtualHost)}
	for _, host := range config.VirtualHosts {
		if err := checkRetry(host.RetryPolicy); err != nil {
			return fmt.Errorf("virtual host %s: %w", host.Name, err)
		}
		for _, domain := range host.Domains {
			domain = strings.ToLower(domain)
			switch {
			case domain == "*":
				t.any = host
			case strings.HasPrefix(domain, "*"):
				t.suffixes.add(domain[1:], host)
			case strings.HasSuffix(domain, "*"):
				t.prefixes.add(domain[:len(domain)-1], host)
			default:
				t.exact[domain] = host
			}
		}
		for i, route := range host.Routes {
			if err := checkRoute(route); err != nil {
				return fmt.Errorf("virtual host %s: route %d: %w", host.Name, i, err)
			}
		}
	}
	n.tables[config.Name] = t
	return nil
}

func checkRoute(route *routev3.Route) error {
	switch route.GetMatch().GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix, *routev3.RouteMatch_PathSeparatedPrefix, *routev3.RouteMatch_Path, *routev3.RouteMatch_SafeRegex, *routev3.RouteMatch_ConnectMatcher_:
	default:
		return fmt.Errorf("match without prefix, path_separated_prefix, path, safe_regex or connect_matcher is not understood")
	}
	for _, h := range route.Match.Headers {
		if h.HeaderMatchSpecifier == nil {
			return fmt.Errorf("header matcher of %s has no condition", h.Name)
		}
	}
	switch action := route.Action.(type) {
	case *routev3.Route_DirectResponse:
	case *routev3.Route_Route:
		switch action.Route.ClusterSpecifier.(type) {
		case *routev3.RouteAction_Cluster, *routev3.RouteAction_WeightedClusters:
		default:
			return fmt.Errorf("a route without cluster or weighted_clusters is not understood")
		}
		if _, err := rewrite(action.Route, ""); err != nil {
			return err
		}
		return checkRetry(action.Route.RetryPolicy)
	default:
		return fmt.Errorf("an action that is neither route nor direct_response is not understood")
	}
	return nil
}

// find looks up the virtual host, and the domain of it that matched. There is
// none for a request without the key header, not even "*"; a table with nothing
// but "*" never asks for it.
func (t *table) find(r Request) (host *routev3.VirtualHost, domain string) {
	if len(t.exact) == 0 && len(t.suffixes.hosts) == 0 && len(t.prefixes.hosts) == 0 {
		return t.any, "*"
	}
	key := strings.ToLower(t.key(r))
	if key == "" {
		return nil, ""
	}
	if host := t.exact[key]; host != nil {
		return host, key
	}
	for _, n := range t.suffixes.lengths {
		if n < len(key) {
			if host := t.suffixes.hosts[key[len(key)-n:]]; host != nil {
				return host, "*" + key[len(key)-n:]
			}
		}
	}
	for _, n := range t.prefixes.lengths {
		if n < len(key) {
			if host := t.prefixes.hosts[key[:n]]; host != nil {
				return host, key[:n] + "*"
			}
		}
	}
	return t.any, "*"
}

func (t *table) key(r Request) string {
	if t.VhostHeader == "" {
		return r.Authority
	}
	value, _ := r.Headers.First(strings.ToLower(t.VhostHeader))
	return value
}

// routeOf finds the first route whose match the request meets.
func routeOf(host *routev3.VirtualHost, r Request) (int, *routev3.Route) {
	for i, route := range host.Routes {
		if meets(route.Match, r) {
			return i, route
		}
	}
	return -1, nil
}

func meets(m *routev3.RouteMatch, r Request) bool {
	switch path := m.PathSpecifier.(type) {
	case *routev3.RouteMatch_ConnectMatcher_:
		if !r.isConnect() {
			return false
		}
	case *routev3.RouteMatch_Prefix:
		if r.isConnect() || !strings.HasPrefix(r.path(), path.Prefix) {
			return false
		}
	case *routev3.RouteMatch_PathSeparatedPrefix:
		rest, below := strings.CutPrefix(r.path(), path.PathSeparatedPrefix)
		if r.isConnect() || !below || rest != "" && rest[0] != '/' {
			return false
		}
	case *routev3.RouteMatch_Path:
		if r.isConnect() || r.path() != path.Path {
			return false
		}
	case *routev3.RouteMatch_SafeRegex:
		if r.isConnect() || !matchesWhole(path.SafeRegex, r.path()) {
			return false
		}
	}
	return !slices.ContainsFunc(m.Headers, func(h *routev3.HeaderMatcher) bool { return !r.meets(h) })
}

// holds looks at each line of a header by itself, as Envoy does from 1.40 on
// (before, at all of them joined by commas: a suffix was that of the last line).
func holds(m *routev3.HeaderMatcher, headers Headers) bool {
	name, text := strings.ToLower(m.Name), m.GetStringMatch()
	there, meets := false, false
	for _, line := range headers {
		if line.Name == name {
			there = true
			meets = meets || text != nil && matches(text, line.Value)
		}
	}
	if text != nil {
		return there && meets != m.InvertMatch // inverted, too, it wants the header to be there
	}
	return there == (m.GetPresentMatch() != m.InvertMatch)
}

func matches(m *matcherv3.StringMatcher, value string) bool {
	fold := func(s string) string {
		if m.IgnoreCase {
			return strings.ToLower(s)
		}
		return s
	}
	value = fold(value)
	switch pattern := m.MatchPattern.(type) {
	case *matcherv3.StringMatcher_Exact:
		return value == fold(pattern.Exact)
	case *matcherv3.StringMatcher_Prefix:
		return strings.HasPrefix(value, fold(pattern.Prefix))
	case *matcherv3.StringMatcher_Suffix:
		return strings.HasSuffix(value, fold(pattern.Suffix))
	case *matcherv3.StringMatcher_Contains:
		return strings.Contains(value, fold(pattern.Contains))
	case *matcherv3.StringMatcher_SafeRegex:
		return matchesWhole(pattern.SafeRegex, value)
	}
	return false
}

func matchesWhole(m *matcherv3.RegexMatcher, value string) bool {
	whole, err := regexp.Compile(`^(?:` + m.Regex + `)$`)
	return err == nil && whole.MatchString(value)
}

// condition writes a match for people.
func condition(m *routev3.RouteMatch) string {
	var parts []string
	switch path := m.PathSpecifier.(type) {
	case *routev3.RouteMatch_ConnectMatcher_:
		parts = append(parts, "CONNECT")
	case *routev3.RouteMatch_Path:
		parts = append(parts, "path "+path.Path)
	case *routev3.RouteMatch_SafeRegex:
		parts = append(parts, "path matches "+path.SafeRegex.Regex)
	case *routev3.RouteMatch_PathSeparatedPrefix:
		parts = append(parts, "path "+path.PathSeparatedPrefix+" and below")
	case *routev3.RouteMatch_Prefix:
		if path.Prefix != "/" {
			parts = append(parts, "path "+path.Prefix+"*")
		}
	}
	for _, h := range m.Headers {
		parts = append(parts, headerCondition(h))
	}
	if len(parts) == 0 {
		return "any"
	}
	return strings.Join(parts, ", ")
}

func headerCondition(h *routev3.HeaderMatcher) string {
	s := h.GetStringMatch()
	if s == nil {
		if h.InvertMatch {
			return h.Name + " absent"
		}
		return h.Name + " present"
	}
	verbs := func(plain, inverted string) string {
		if h.InvertMatch {
			return h.Name + " " + inverted + " "
		}
		return h.Name + " " + plain + " "
	}
	switch pattern := s.MatchPattern.(type) {
	case *matcherv3.StringMatcher_Exact:
		return verbs("is", "is not") + pattern.Exact
	case *matcherv3.StringMatcher_Prefix:
		return verbs("begins with", "does not begin with") + pattern.Prefix
	case *matcherv3.StringMatcher_Suffix:
		return verbs("ends with", "does not end with") + pattern.Suffix
	case *matcherv3.StringMatcher_Contains:
		return verbs("contains", "does not contain") + pattern.Contains
	case *matcherv3.StringMatcher_SafeRegex:
		return verbs("matches", "does not match") + pattern.SafeRegex.Regex
	}
	return h.Name
}

// matcher makes a condition on headers of holds.
func matcher(headers Headers) func(*routev3.HeaderMatcher) bool {
	return func(m *routev3.HeaderMatcher) bool { return holds(m, headers) }
}
