package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/regular"
)

// APIVersion is the one version of documents there is.
const APIVersion = "dmsc.io/v1alpha1"

// Kinds are the kinds of documents, sorted.
var Kinds = []string{"ExternalService", "HostAlias", "PathConstraint", "PrefixGrants", "QoSPolicy", "ServicePool", "Topology", "TrafficSplit"}

// Document is one YAML document.
type Document struct {
	File       string
	Kind, Name string            // "" for settings
	Labels     map[string]string // metadata.labels; nil for settings
	Line       int               // first line of its content

	root ast.Node // nil for empty settings
	at   string   // path that Decode starts at: "$.spec", "$" for settings
	// lines precede the document in its file: goccy numbers lines per parse.
	lines int
}

// Parse reads the documents of one file; empty ones are skipped. The error
// joins every fault of the file, each an *Error; the sound documents are
// returned even so.
func Parse(file string, data []byte) ([]*Document, error) {
	bodies, err := split(file, data)
	var docs []*Document
	faults := []error{err}
	for _, d := range bodies {
		if d.root == nil {
			continue
		}
		if err := d.readEnvelope(); err != nil {
			faults = append(faults, err)
			continue
		}
		docs = append(docs, d)
	}
	return docs, errors.Join(append(faults, duplicates(docs))...)
}

// Load parses files and the *.yaml and *.yml directly inside folders, in the
// order given and sorted within a folder. Kind and name are unique among all.
// The error joins every fault of every file.
func Load(paths ...string) ([]*Document, error) {
	var docs []*Document
	var faults []error
	for _, p := range paths {
		files, err := list(p)
		faults = append(faults, err)
		for _, f := range files {
			data, err := regular.ReadFile(f)
			if err != nil {
				faults = append(faults, readError(f, err))
				continue
			}
			d, err := Parse(f, data)
			docs, faults = append(docs, d...), append(faults, err)
		}
	}
	// Those of one file were reported with it.
	if err := errors.Join(faults...); err != nil {
		return docs, err
	}
	return docs, duplicates(docs)
}

// ParseSettings reads a file of one YAML document without kind and metadata,
// such as a process configuration. Decode then reads the whole document.
func ParseSettings(file string, data []byte) (*Document, error) {
	bodies, err := split(file, data)
	if err != nil {
		return nil, err
	}
	d := &Document{File: file}
	for _, b := range bodies {
		switch {
		case b.root == nil:
		case d.root != nil:
			return nil, b.Errorf("$", CodeSyntax, "a second document in a file that holds one")
		default:
			d = b
		}
	}
	d.at = "$"
	return d, nil
}

func list(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, readError(path, err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return nil, readError(path, err)
	}
	var files []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, &Error{File: path, Code: CodeEmpty, Msg: "the folder holds no *.yaml or *.yml"}
	}
	return files, nil
}

func readError(path string, err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) { // the path is said already
		err = pe.Err
	}
	return &Error{File: path, Code: CodeRead, Msg: err.Error()}
}

// split parses each document of a file. It cuts at the markers itself, since
// goccy drops, in silence, whatever follows an empty document. A document whose
// syntax is broken is left out and reported.
func split(file string, data []byte) ([]*Document, error) {
	if len(data) > regular.MaxBytes {
		return nil, &Error{File: file, Code: CodeTooMany, Msg: fmt.Sprintf("the file has %d bytes, at most %d are read", len(data), regular.MaxBytes)}
	}
	if err := checkText(file, data); err != nil {
		return nil, err
	}
	var docs []*Document
	var faults []error
	var text bytes.Buffer
	start := 0
	flush := func(end int) {
		d := &Document{File: file, at: "$.spec", lines: start}
		if err := d.parse(text.Bytes()); err != nil {
			faults = append(faults, err)
		} else {
			docs = append(docs, d)
		}
		text.Reset()
		start = end
	}
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\ufeff"))) {
		if marker, rest := bytes.TrimRight(line, "\r\n"), 3; bytes.HasPrefix(marker, []byte("---")) || bytes.HasPrefix(marker, []byte("...")) {
			if len(marker) == 3 || marker[3] == ' ' || marker[3] == '\t' {
				flush(number)
				text.WriteString("   ") // keeps the columns of what follows
				line = line[rest:]
			}
		}
		text.Write(line)
		number++
	}
	flush(number)
	return docs, errors.Join(faults...)
}

// checkText refuses what is not UTF-8: goccy lets it pass, and no message and no
// configuration of an Envoy could carry it.
func checkText(file string, data []byte) error {
	line := 0
	for text := range bytes.Lines(data) {
		line++
		for col := 0; col < len(text); {
			r, size := utf8.DecodeRune(text[col:])
			if r == utf8.RuneError && size == 1 {
				return &Error{File: file, Line: line, Col: utf8.RuneCount(text[:col]) + 1, Code: CodeSyntax, Msg: fmt.Sprintf("the byte %#x is not UTF-8; save the file as UTF-8", text[col])}
			}
			col += size
		}
	}
	return nil
}

func (d *Document) parse(text []byte) error {
	if depth(text) > maxDepth {
		return &Error{File: d.File, Line: d.lines + 1, Col: 1, Code: CodeTooMany, Msg: fmt.Sprintf("brackets are nested deeper than %d", maxDepth)}
	}
	f, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey()) // we report duplicates, all of them
	if err != nil {
		return d.syntaxError(err)
	}
	for _, doc := range f.Docs {
		switch body := doc.Body.(type) {
		case nil, *ast.CommentGroupNode:
		case *ast.NullNode:
		default:
			d.root = body
			d.Line, _ = d.position(body)
		}
	}
	return nil
}

// maxDepth of nested flow brackets: goccy parses them by recursion.
const maxDepth = 100

func depth(text []byte) int {
	deepest, now := 0, 0
	for _, c := range text {
		switch c {
		case '[', '{':
			now++
			deepest = max(deepest, now)
		case ']', '}':
			now = max(0, now-1)
		}
	}
	return deepest
}

func (d *Document) syntaxError(err error) error {
	e := &Error{File: d.File, Code: CodeSyntax, Msg: err.Error()}
	var at yaml.Error
	if errors.As(err, &at) {
		e.Msg = at.GetMessage()
		if t := at.GetToken(); t != nil {
			e.Line, e.Col = t.Position.Line+d.lines, t.Position.Column
		}
	}
	return e
}

// envelope is what all documents have in common.
type envelope struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name   string            `yaml:"name"`
		Labels map[string]string `yaml:"labels"`
	} `yaml:"metadata"`
	Spec raw `yaml:"spec"`
}

func (d *Document) readEnvelope() error {
	var e envelope
	if err := d.decode("$", &e); err != nil {
		return err
	}
	var faults []error
	switch {
	case e.APIVersion == "":
		faults = append(faults, d.Errorf("$", CodeMissing, "apiVersion is missing, write apiVersion: %s", APIVersion))
	case e.APIVersion != APIVersion:
		faults = append(faults, d.Errorf("$.apiVersion", CodeVersion, "apiVersion %q is not %s", e.APIVersion, APIVersion))
	}
	switch {
	case e.Kind == "":
		faults = append(faults, d.Errorf("$", CodeMissing, "kind is missing, one of %s", strings.Join(Kinds, ", ")))
	case !slices.Contains(Kinds, e.Kind):
		hint := cmp.Or(suggest(e.Kind, Kinds), ", one of "+strings.Join(Kinds, ", "))
		faults = append(faults, d.Errorf("$.kind", CodeKind, "unknown kind %q%s", e.Kind, hint))
	}
	if e.Metadata.Name == "" {
		faults = append(faults, d.Errorf("$.metadata", CodeName, "metadata.name is missing"))
	} else if _, err := dmsc.ParseNodeID(e.Metadata.Name); err != nil { // one grammar for names
		faults = append(faults, d.Errorf("$.metadata.name", CodeName, "metadata.name has 1 to 63 characters of a-z 0-9 and -, not %q", e.Metadata.Name))
	}
	if e.Spec.node == nil {
		faults = append(faults, d.Errorf("$", CodeMissing, "spec is missing"))
	}
	d.Kind, d.Name, d.Labels = e.Kind, e.Metadata.Name, e.Metadata.Labels
	return errors.Join(faults...)
}

func duplicates(docs []*Document) error {
	type id struct{ kind, name string }
	first := map[id]*Document{}
	var faults []error
	for _, d := range docs {
		k := id{d.Kind, d.Name}
		if f := first[k]; f != nil {
			faults = append(faults, d.Errorf("$.metadata.name", CodeObject, "a %s named %s is already at %s:%d", d.Kind, d.Name, f.File, f.Line))
			continue
		}
		first[k] = d
	}
	return errors.Join(faults...)
}

// Expect returns an error unless d is of one of the kinds.
func (d *Document) Expect(kinds ...string) error {
	if slices.Contains(kinds, d.Kind) {
		return nil
	}
	return d.Errorf("$.kind", CodeKind, "kind %s does not belong here, %s is expected", d.Kind, strings.Join(kinds, " or "))
}

// Decode reads the spec (of settings: the whole document) into the struct that
// spec points to, which keeps its values where the document says nothing. The
// error joins every fault, each an *Error.
func (d *Document) Decode(spec any) error { return d.decode(d.at, spec) }

// Errorf returns an *Error at the value that path names, for example
// "$.spec.links[2].metric". Where the path leads to nothing, the error is at
// the deepest part of it that exists.
func (d *Document) Errorf(path, code, format string, args ...any) error {
	line, col := d.Position(path)
	return &Error{File: d.File, Line: line, Col: col, Code: code, Msg: fmt.Sprintf(format, args...)}
}

// Position returns the line and column of the value that path names, by the
// rule of Errorf; 0, 0 for an empty document.
func (d *Document) Position(path string) (line, col int) {
	if d.root == nil {
		return 0, 0
	}
	node, _ := find(d.root, path)
	return d.position(node)
}

// Has reports whether the document says anything at path.
func (d *Document) Has(path string) bool {
	if d.root == nil {
		return false
	}
	_, ok := find(d.root, path)
	return ok
}
