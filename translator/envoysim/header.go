package envoysim

import (
	"fmt"
	"slices"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Header is one header line. Names are lower case, as Envoy holds them.
type Header struct{ Name, Value string }

// Headers are the lines of a request or a response, in order.
type Headers []Header

// First returns the value of the first line of that name.
func (h Headers) First(name string) (value string, ok bool) {
	for _, line := range h {
		if line.Name == name {
			return line.Value, true
		}
	}
	return "", false
}

func (h Headers) without(drop func(name string) bool) Headers {
	return slices.DeleteFunc(slices.Clone(h), func(line Header) bool { return drop(line.Name) })
}

func (h Headers) remove(name string) Headers {
	name = strings.ToLower(name)
	return h.without(func(n string) bool { return n == name })
}

// apply does what a header option says. A value that comes out empty is not
// written (keep_empty_value is off).
func (h Headers) apply(option *corev3.HeaderValueOption, value string) Headers {
	name := strings.ToLower(option.Header.Key)
	_, present := h.First(name)
	switch {
	case value == "":
		return h
	case option.AppendAction == corev3.HeaderValueOption_ADD_IF_ABSENT && present,
		option.AppendAction == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS && !present:
		return h
	case option.AppendAction != corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
		h = h.remove(name)
	}
	return append(slices.Clip(h), Header{name, value})
}

// Request is what a client or the node before sends. A CONNECT has no path.
type Request struct {
	Method    string // "" means GET
	Authority string
	Path      string // "" means /
	Headers   Headers
}

func (r Request) isConnect() bool { return r.Method == "CONNECT" }

// path is without the query, which routes do not look at.
func (r Request) path() string {
	path, _, _ := strings.Cut(r.Path, "?")
	path, _, _ = strings.Cut(path, "#")
	return path
}

// value fills in a format string: text with %REQ(NAME)% or %REQ(NAME?OTHER)%,
// the first line of NAME or else of OTHER, and %% for a percent sign.
func (r Request) value(format string) (string, error) {
	var out strings.Builder
	for {
		text, rest, found := strings.Cut(format, "%")
		out.WriteString(text)
		if !found {
			return out.String(), nil
		}
		command, rest, found := strings.Cut(rest, "%")
		switch names, isReq := strings.CutPrefix(command, "REQ("); {
		case !found:
			return "", fmt.Errorf("format %q ends within a command", format)
		case command == "":
			out.WriteByte('%')
		case isReq && strings.HasSuffix(names, ")"):
			name, other, _ := strings.Cut(strings.TrimSuffix(names, ")"), "?")
			value, ok := r.header(name)
			if !ok && other != "" {
				value, _ = r.header(other)
			}
			out.WriteString(value)
		default:
			return "", fmt.Errorf("format command %%%s%% is not understood", command)
		}
		format = rest
	}
}

// header reads a header or pseudo header by its name in a format.
func (r Request) header(name string) (string, bool) {
	switch name = strings.ToLower(name); name {
	case ":authority", "host":
		return r.Authority, r.Authority != ""
	case ":method":
		return r.Method, true
	case ":path":
		return r.Path, !r.isConnect()
	}
	return r.Headers.First(name)
}

// edit applies what a route, a virtual host or a table does to headers: what
// is removed goes first.
func (r Request) edit(remove []string, add []*corev3.HeaderValueOption) (Request, error) {
	for _, name := range remove {
		r.Headers = r.Headers.remove(name)
	}
	for _, option := range add {
		value, err := r.value(option.Header.Value)
		if err != nil {
			return r, fmt.Errorf("header %s: %w", option.Header.Key, err)
		}
		r.Headers = r.Headers.apply(option, value)
	}
	return r, nil
}

// mutate applies an early header mutation.
func (r Request) mutate(mutations []*mutationv3.HeaderMutation) (Request, error) {
	for _, m := range mutations {
		switch action := m.Action.(type) {
		case *mutationv3.HeaderMutation_Remove:
			r.Headers = r.Headers.remove(action.Remove)
		case *mutationv3.HeaderMutation_RemoveOnMatch_:
			r.Headers = r.Headers.without(func(name string) bool { return matches(action.RemoveOnMatch.KeyMatcher, name) })
		case *mutationv3.HeaderMutation_Append:
			var err error
			if r, err = r.edit(nil, []*corev3.HeaderValueOption{action.Append}); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}
