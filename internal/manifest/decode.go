package manifest

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// raw keeps a part of the document for later.
type raw struct{ node ast.Node }

var (
	rawType      = reflect.TypeFor[raw]()
	durationType = reflect.TypeFor[time.Duration]()
)

func (d *Document) decode(at string, into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic(fmt.Sprintf("manifest: Decode into %T, a pointer is needed", into))
	}
	dec := &decoder{doc: d}
	if d.root == nil {
		dec.missing(nil, v.Elem())
	} else if node, ok := find(d.root, at); ok {
		dec.value(node, v.Elem(), "")
	}
	return errors.Join(dec.faults...)
}

// decoder walks a tree and a Go value side by side and notes every fault.
// The name arguments are the field's key, "" for list items and the top.
type decoder struct {
	doc    *Document
	faults []error
}

func (dec *decoder) faultf(at ast.Node, code, format string, args ...any) {
	e := &Error{File: dec.doc.File, Code: code, Msg: fmt.Sprintf(format, args...)}
	if at != nil {
		e.Line, e.Col = dec.doc.position(at)
	}
	dec.faults = append(dec.faults, e)
}

func (dec *decoder) value(n ast.Node, v reflect.Value, name string) {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode, *ast.DirectiveNode:
		dec.faultf(n, CodeUnsupported, "anchors, aliases, tags and directives are not accepted; write the value out")
		return
	}
	if v.Type() == rawType {
		if n.Type() != ast.NullType {
			v.Set(reflect.ValueOf(raw{n}))
		}
		return
	}
	if v.Type() == durationType {
		panic("manifest: decode durations into manifest.Duration, which demands the unit")
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		dec.text(n, u, name)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if n.Type() == ast.NullType {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		dec.value(n, v.Elem(), name)
	case reflect.Struct:
		dec.object(n, v, name)
	case reflect.Map:
		dec.table(n, v, name)
	case reflect.Slice:
		dec.list(n, v, name)
	default:
		dec.scalar(n, v, name)
	}
}

func (dec *decoder) text(n ast.Node, u encoding.TextUnmarshaler, name string) {
	s, ok := scalarText(n)
	if !ok {
		dec.faultf(n, CodeType, "%sis %s, a single value is expected", label(name), describe(n))
		return
	}
	if err := u.UnmarshalText([]byte(s)); err != nil {
		code := CodeValue
		var coded *codedError
		switch {
		case errors.As(err, &coded):
			code = coded.code
		case strings.HasPrefix(err.Error(), "service prefix"):
			code = CodePrefix
		}
		dec.faultf(n, code, "%s%v", prefixed(name), err)
	}
}

func (dec *decoder) object(n ast.Node, v reflect.Value, name string) {
	if n.Type() == ast.NullType { // "metadata:" with nothing below says nothing
		dec.missing(n, v)
		return
	}
	pairs, ok := mapping(n)
	if !ok {
		dec.faultf(n, CodeType, "%sis %s, fields are expected", label(name), describe(n))
		return
	}
	fields := fieldsOf(v)
	seen := map[string]ast.Node{}
	for _, kv := range pairs {
		key, ok := dec.key(kv, seen)
		if !ok {
			continue
		}
		f, ok := fields.named(key)
		if !ok {
			dec.faultf(kv.Key, CodeUnknown, "unknown field %q%s", key, suggest(key, fields.names()))
			continue
		}
		dec.value(kv.Value, f.value, key)
	}
	for _, f := range fields {
		if f.required && seen[f.name] == nil {
			dec.faultf(n, CodeMissing, "%s is missing", f.name)
		}
	}
}

// missing notes the required fields of a struct for which there is no text.
func (dec *decoder) missing(n ast.Node, v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	for _, f := range fieldsOf(v) {
		if f.required {
			dec.faultf(n, CodeMissing, "%s is missing", f.name)
		}
	}
}

// key returns the key of a pair unless it is a duplicate or no plain key.
func (dec *decoder) key(kv *ast.MappingValueNode, seen map[string]ast.Node) (string, bool) {
	key, ok := scalarText(kv.Key)
	switch {
	case kv.Key.Type() == ast.MergeKeyType:
		dec.faultf(kv.Key, CodeUnsupported, "merge keys are not accepted; write the fields out")
		return "", false
	case !ok:
		dec.faultf(kv.Key, CodeSyntax, "a field name is expected")
		return "", false
	}
	if first := seen[key]; first != nil {
		line, _ := dec.doc.position(first)
		dec.faultf(kv.Key, CodeDuplicate, "field %q is given twice, first in line %d", key, line)
		return "", false
	}
	seen[key] = kv.Key
	return key, true
}

func (dec *decoder) table(n ast.Node, v reflect.Value, name string) {
	if n.Type() == ast.NullType {
		return
	}
	pairs, ok := mapping(n)
	if !ok {
		dec.faultf(n, CodeType, "%sis %s, fields are expected", label(name), describe(n))
		return
	}
	if v.Type().Key().Kind() != reflect.String {
		panic(fmt.Sprintf("manifest: cannot decode into %s, keys must be strings", v.Type()))
	}
	v.Set(reflect.MakeMap(v.Type()))
	seen := map[string]ast.Node{}
	for _, kv := range pairs {
		key, ok := dec.key(kv, seen)
		if !ok {
			continue
		}
		item := reflect.New(v.Type().Elem()).Elem()
		dec.value(kv.Value, item, key)
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), item)
	}
}

func (dec *decoder) list(n ast.Node, v reflect.Value, name string) {
	if n.Type() == ast.NullType {
		return
	}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		dec.faultf(n, CodeType, "%sis %s, a list is expected", label(name), describe(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		dec.value(item, v.Index(i), "")
	}
}

func (dec *decoder) scalar(n ast.Node, v reflect.Value, name string) {
	wrong := func(want string) {
		dec.faultf(n, CodeType, "%sis %s, %s is expected", label(name), describe(n), want)
	}
	switch v.Kind() {
	case reflect.String:
		switch n := n.(type) {
		case *ast.StringNode:
			v.SetString(n.Value)
		case *ast.LiteralNode:
			v.SetString(n.Value.Value)
		default:
			if s, ok := scalarText(n); ok {
				wrong(fmt.Sprintf("text in quotes, %q,", s))
				return
			}
			wrong("text")
		}
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			wrong("true or false")
			return
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(wholeText(n), 10, v.Type().Bits())
		switch {
		case errors.Is(err, strconv.ErrRange):
			dec.faultf(n, CodeValue, "%s%s is out of range", prefixed(name), wholeText(n))
		case err != nil:
			wrong("a whole decimal number")
		default:
			v.SetInt(i)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s := wholeText(n)
		u, err := strconv.ParseUint(s, 10, v.Type().Bits())
		switch {
		case errors.Is(err, strconv.ErrRange):
			dec.faultf(n, CodeValue, "%s%s is above %d, the largest allowed", prefixed(name), s, uint64(math.MaxUint64)>>(64-v.Type().Bits()))
		case err != nil && strings.HasPrefix(s, "-"):
			dec.faultf(n, CodeValue, "%s%s is negative", prefixed(name), s)
		case err != nil:
			wrong("a whole decimal number")
		default:
			v.SetUint(u)
		}
	case reflect.Float32, reflect.Float64:
		s, _ := scalarText(n)
		f, err := strconv.ParseFloat(s, 64)
		if _, quoted := n.(*ast.StringNode); quoted || err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			wrong("a finite number")
			return
		}
		v.SetFloat(f)
	default:
		panic(fmt.Sprintf("manifest: cannot decode into %s", v.Type()))
	}
}

// label starts a sentence about a named field, or about a list item.
func label(name string) string {
	if name == "" {
		return "this "
	}
	return name + " "
}

func prefixed(name string) string {
	if name == "" {
		return ""
	}
	return name + ": "
}

type field struct {
	name     string
	required bool
	value    reflect.Value
}

type fields []field

func (fs fields) named(name string) (field, bool) {
	for _, f := range fs {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

func (fs fields) names() []string {
	var names []string
	for _, f := range fs {
		names = append(names, f.name)
	}
	return names
}

func fieldsOf(v reflect.Value) fields {
	var fs fields
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			fs = append(fs, fieldsOf(v.Field(i))...)
		case name != "" && name != "-":
			fs = append(fs, field{name, options == "required", v.Field(i)})
		}
	}
	return fs
}
