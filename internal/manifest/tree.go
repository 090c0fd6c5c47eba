package manifest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// position returns where a node begins in the file. A block mapping's own
// token is the colon of its first pair; the key is what a reader looks for.
func (d *Document) position(n ast.Node) (line, col int) {
	switch m := n.(type) {
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return d.position(m.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return d.position(m.Key)
	}
	p := n.GetToken().Position
	return p.Line + d.lines, p.Column
}

// mapping returns the pairs of a mapping.
func mapping(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// scalarText returns a scalar as it was written, quotes resolved.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// wholeText returns a plain decimal integer as written, "" for all else: 010
// is eight to one YAML and ten to the other, so neither is guessed.
func wholeText(n ast.Node) string {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		return ""
	}
	s := i.Token.Value
	digits := strings.TrimPrefix(s, "-")
	if strings.Trim(digits, "0123456789") != "" || len(digits) > 1 && digits[0] == '0' {
		return ""
	}
	return s
}

// describe names what the operator wrote, for "… is X, Y is expected".
func describe(n ast.Node) string {
	switch n := n.(type) {
	case *ast.NullNode:
		return "empty"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a group of fields"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		s, _ := scalarText(n)
		if len(s) > 40 {
			s = s[:40] + "…"
		}
		return fmt.Sprintf("the text %q", s)
	case *ast.BoolNode:
		return n.Token.Value
	default:
		return "the number " + n.GetToken().Value
	}
}

// find walks a path of ".key" and "[index]" behind "$" and returns the deepest
// node that exists, and whether that is the end of the path.
func find(n ast.Node, path string) (ast.Node, bool) {
	rest := strings.TrimPrefix(path, "$")
	for rest != "" {
		var step string
		if rest[0] == '[' {
			step, rest, _ = strings.Cut(rest[1:], "]")
			i, err := strconv.Atoi(step)
			seq, ok := n.(*ast.SequenceNode)
			if err != nil || !ok || i < 0 || i >= len(seq.Values) {
				return n, false
			}
			n = seq.Values[i]
			continue
		}
		step = strings.TrimPrefix(rest, ".")
		if i := strings.IndexAny(step, ".["); i >= 0 {
			step, rest = step[:i], step[i:]
		} else {
			rest = ""
		}
		value, ok := lookup(n, step)
		if !ok {
			return n, false
		}
		n = value
	}
	return n, true
}

func lookup(n ast.Node, key string) (ast.Node, bool) {
	pairs, _ := mapping(n)
	for _, kv := range pairs {
		if s, _ := scalarText(kv.Key); s == key {
			return kv.Value, true
		}
	}
	return nil, false
}
