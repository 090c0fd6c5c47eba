package envoysim

import (
	"fmt"
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

var (
	escapedSlash = regexp.MustCompile(`(?i)%2f|%5c`)
	slashes      = regexp.MustCompile(`//+`)
	// escape is one of a character that needs none: a letter, a digit, - . _ ~.
	escape = regexp.MustCompile(`(?i)%(2d|2e|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9ae])`)
	// plain paths are those whose normalization is known here.
	plain = regexp.MustCompile(`^/([a-zA-Z0-9/\-._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*$`)
	// dotted segments are resolved by some versions of Envoy only.
	dotted = regexp.MustCompile(`/\.\.?;`)
)

// normalize gives the path the form that the listener's routes expect. A reply
// refuses it.
func (m *manager) normalize(r *Request) (*Reply, error) {
	end := strings.IndexAny(r.Path+"?", "?#")
	path, query := r.Path[:end], r.Path[end:]
	if m.PathWithEscapedSlashesAction == hcmv3.HttpConnectionManager_REJECT_REQUEST && escapedSlash.MatchString(path) {
		return m.local(Reply{Status: 400})
	}
	if m.NormalizePath.GetValue() {
		if !plain.MatchString(path) || dotted.MatchString(path) {
			return nil, fmt.Errorf("how Envoy normalizes the path %q is not simulated", path)
		}
		path = withoutDots(escape.ReplaceAllStringFunc(path, func(s string) string {
			var c byte
			fmt.Sscanf(s, "%%%02x", &c)
			return string(c)
		}))
	}
	if m.MergeSlashes {
		merged := slashes.ReplaceAllString(path, "/")
		if merged == "/" && path != "/" {
			merged = "//" // Envoy keeps the first and the last
		}
		path = merged
	}
	r.Path = path + query
	return nil, nil
}

// withoutDots resolves the segments . and .. (RFC 3986 §5.2.4).
func withoutDots(path string) string {
	segments := strings.Split(path[1:], "/")
	var out []string
	for i, s := range segments {
		last := i == len(segments)-1
		switch {
		case s == "..":
			out = out[:max(0, len(out)-1)]
		case s != ".":
			out = append(out, s)
			continue
		}
		if last {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

// rewrite changes the path as the route says; the query stays.
func rewrite(action *routev3.RouteAction, path string) (string, error) {
	r := action.RegexRewrite
	if r == nil {
		return path, nil
	}
	pattern, err := regexp.Compile(r.Pattern.GetRegex())
	if err != nil || strings.Contains(r.Substitution, `\`) {
		return "", fmt.Errorf("regex_rewrite of %q by %q is not understood", r.Pattern.GetRegex(), r.Substitution)
	}
	end := strings.IndexAny(path+"?", "?#")
	return pattern.ReplaceAllLiteralString(path[:end], r.Substitution) + path[end:], nil
}

// withoutDot takes one dot off the end of a host, before its port if it has one.
func withoutDot(authority string) string {
	host, dotless := strings.CutSuffix(authority, ".")
	if last := strings.LastIndexByte(authority, '.'); !dotless && last >= 0 && authority[last+1] == ':' {
		return authority[:last] + authority[last+1:]
	}
	return host
}
