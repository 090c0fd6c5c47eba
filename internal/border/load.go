package border

import (
	"errors"
	"strings"

	"github.com/dmsc-mesh/dmsc/internal/manifest"
	"github.com/dmsc-mesh/dmsc/translator"
)

// Kinds of the documents this package reads. They may stand in one file.
var Kinds = []string{KindExternal, KindAlias}

// The stable codes of this package, which follow those of scsc/policy.
const (
	CodeHost  = "DMSC301"
	CodePath  = "DMSC302"
	CodeClaim = "DMSC303"
	CodeLocal = "DMSC304"
)

// Codes lists every code of this package with its meaning and what to do.
var Codes = []struct{ Code, Meaning, Fix string }{
	{CodeHost, "the host is no host name", "write the full name, in a-z 0-9 . _ -, without port, scheme and wildcard"},
	{CodePath, "the path is not one that a request can be matched by", "write it as the service sees it: /orders/v1, without escapes, query and dot segments"},
	{CodeClaim, "two documents claim the same requests", "give one of the two another host, path or port, or remove it"},
	{CodeLocal, "the target of an ExternalService is the gateway itself or its link", "name a host outside, or write allowLocal: true if it is meant"},
}

// Load reads the documents of a file, or of the YAML files directly in a folder.
// A folder without any is a border that nothing passes: whoever takes the last
// document away means it. Any other kind is a fault. The error joins every fault, each a
// *manifest.Error; the Set is then empty.
func Load(path string) (Set, error) {
	docs, err := manifest.Load(path)
	if e := (*manifest.Error)(nil); errors.As(err, &e) && e.Code == manifest.CodeEmpty {
		return Set{}, nil
	}
	return build(docs, err)
}

// Parse reads the documents of one file.
func Parse(file string, data []byte) (Set, error) {
	docs, err := manifest.Parse(file, data)
	return build(docs, err)
}

func build(docs []*manifest.Document, err error) (Set, error) {
	r := &reader{claims: make(map[string]claim), owners: make(map[string]claim)}
	faults := []error{err}
	for _, d := range docs {
		r.doc = d
		switch d.Kind {
		case KindAlias:
			r.alias()
		case KindExternal:
			r.external()
		default:
			r.fault(d.Expect(Kinds...))
		}
	}
	if err := errors.Join(append(faults, r.faults...)...); err != nil {
		return Set{}, err
	}
	r.set.sort()
	return r.set, nil
}

// reader reads one document after the other and notes every fault.
type reader struct {
	doc    *manifest.Document
	set    Set
	claims map[string]claim
	owners map[string]claim // of the hosts that pods name
	faults []error
}

// claim is where requests were claimed first.
type claim struct {
	doc  *manifest.Document
	path string
}

func (r *reader) fault(err error) {
	if err != nil {
		r.faults = append(r.faults, err)
	}
}

func (r *reader) faultf(path, code, format string, args ...any) {
	r.fault(r.doc.Errorf("$.spec"+path, code, format, args...))
}

// owns notes that pods reach a host by documents of this kind: it is inside the
// mesh or outside.
func (r *reader) owns(host, path string) {
	first, ok := r.owners[host]
	switch {
	case !ok:
		r.owners[host] = claim{r.doc, path}
	case first.doc.Kind != r.doc.Kind:
		r.taken(first, path, host)
	}
}

// claim notes that the value at path claims the requests of that key, which
// what describes.
func (r *reader) claim(key, path, what string) {
	if first, ok := r.claims[key]; ok {
		r.taken(first, path, what)
		return
	}
	r.claims[key] = claim{r.doc, path}
}

func (r *reader) taken(first claim, path, what string) {
	line, col := first.doc.Position("$.spec" + first.path)
	r.faultf(path, CodeClaim, "%s %s at %s:%d:%d claims %s already", first.doc.Kind, first.doc.Name, first.doc.File, line, col, what)
}

// host checks one name and returns it in lower case.
func (r *reader) host(path, text string) string {
	if err := translator.CheckHost(text); err != nil {
		r.faultf(path, CodeHost, "%v", err)
	}
	return strings.ToLower(text)
}
