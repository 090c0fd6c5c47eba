package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/dmsc-mesh/dmsc"

// file is one Go source file of the module that is not a test.
type file struct {
	path    string // from the module's root
	pkg     string // folder from the module's root, "." for the root
	imports []string
	ast     *ast.File
}

// may lists, for each package, the packages of ours it may import. A package
// that is not listed here may import none.
var may = map[string][]string{
	".":                       {},
	"api/dmsc/v1":             {},
	"linkstate/spf":           {"."},
	"linkstate":               {".", "linkstate/spf"},
	"linkstate/rib":           {".", "linkstate", "linkstate/spf"},
	"linkstate/rib/ribtest":   {".", "linkstate", "linkstate/rib"},
	"linkstate/linkstatetest": {".", "linkstate"},
	"linkstate/peering":       {".", "linkstate", "api/dmsc/v1"},
	"internal/manifest":       {".", "internal/regular"},
	"internal/topology":       {".", "linkstate", "internal/manifest"},
	"internal/config":         {".", "internal/manifest", "internal/regular", "linkstate"},
	"translator":              {".", "linkstate", "linkstate/rib"},
	"translator/envoysim":     {".", "translator"},
	"xds":                     {".", "translator"},
	"xds/xdstest":             {".", "xds"},
	"spa":                     {".", "internal/manifest", "internal/watch", "api/dmsc/v1"},
	"scsc/policy":             {".", "internal/manifest"},
	"scsc":                    {".", "linkstate", "linkstate/spf", "linkstate/rib", "scsc/policy", "internal/manifest", "internal/watch", "internal/durable", "internal/regular", "api/dmsc/v1"},
	"internal/border":         {".", "internal/manifest", "translator"},
	"internal/measure":        {".", "linkstate", "translator"},
	"internal/admin":          {"."},
	"internal/envoybin":       {},
	"internal/seeds":          {},
	"internal/serve":          {},
	"internal/regular":        {},
	"internal/watch":          {"internal/regular"},
	"internal/durable":        {},
	"internal/observer":       {".", "linkstate", "linkstate/peering"},
}

// wiring packages join everything; they may import all but each other's tops.
var wiring = []string{"internal/node", "internal/lab", "internal/lab/labtest", "internal/toy", "internal/demo", "internal/bench", "internal/cli", "internal/sim", "client", "cmd/dmsc", "e2e"}

// pure packages take the time as an argument and do nothing themselves.
var pure = []string{".", "linkstate", "linkstate/spf", "linkstate/rib", "translator", "translator/envoysim", "scsc/policy", "internal/border"}

// impure are the standard packages that pure ones do without, with the reason.
var impure = map[string]string{
	"net":           "no sockets",
	"net/http":      "no sockets",
	"os":            "no files, no environment",
	"os/exec":       "no processes",
	"sync":          "one goroutine owns the state",
	"context":       "nothing here waits",
	"log":           "results, not log lines",
	"log/slog":      "results, not log lines",
	"math/rand":     "use math/rand/v2 with a seed from Config",
	"crypto/rand":   "use math/rand/v2 with a seed from Config",
	"path/filepath": "no files",
}

// doors are the packages that may import a dependency, by its prefix.
var doors = []struct {
	dependency string
	packages   []string
	reason     string
}{
	{"github.com/spf13/viper", []string{"internal/config"}, "viper folds the case of keys and splits them at dots"},
	{"github.com/envoyproxy/go-control-plane/pkg", []string{"internal/bench"}, "its server and caches are what ours is compared with (ADR 0001, 0002)"},
	{"github.com/envoyproxy/go-control-plane/envoy", []string{"translator", "translator/envoysim", "xds", "xds/xdstest", "internal/lab", "internal/bench", "e2e"}, "Envoy's words stay behind the translator"},
	{"google.golang.org/grpc", []string{"api/dmsc/v1", "linkstate/peering", "spa", "scsc", "xds", "xds/xdstest", "internal/node", "internal/serve", "internal/toy", "client", "cmd/dmsc", "internal/cli", "e2e", "internal/lab", "internal/demo", "internal/bench"}, "the wire stops at the edge"},
	{"github.com/fsnotify/fsnotify", []string{"internal/watch"}, "a change is noticed in one way"},
	{"go.etcd.io/bbolt", []string{"internal/node"}, "one state file, one writer"},
	{module + "/api", []string{"linkstate/peering", "spa", "scsc", "internal/node", "internal/serve", "internal/toy", "client", "internal/cli", "cmd/dmsc", "e2e"}, "wire structs stop at the edge"},
}

// pureFiles are the pure files of packages that also have an edge.
var pureFiles = []string{"spa/authority.go", "spa/grants.go", "scsc/center.go", "scsc/decide.go", "scsc/threshold.go", "scsc/overlay.go", "internal/node/registry.go"}

func TestImportsGoOneWay(t *testing.T) {
	for _, f := range sources(t) {
		if slices.Contains(wiring, f.pkg) {
			continue
		}
		for _, imp := range f.imports {
			ours, ok := within(imp)
			if ok && !slices.Contains(may[f.pkg], ours) {
				t.Errorf("%s imports %s: package %s may import only %v (design §2)", f.path, imp, f.pkg, may[f.pkg])
			}
		}
	}
}

func TestEveryDependencyHasItsDoor(t *testing.T) {
	for _, f := range sources(t) {
		for _, imp := range f.imports {
			for _, d := range doors {
				if (imp == d.dependency || strings.HasPrefix(imp, d.dependency+"/")) && !slices.Contains(d.packages, f.pkg) {
					t.Errorf("%s imports %s: only %v may (%s)", f.path, imp, d.packages, d.reason)
				}
			}
		}
	}
}

func TestPurePackagesTakeTheTimeAndDoNothing(t *testing.T) {
	for _, f := range sources(t) {
		if !slices.Contains(pure, f.pkg) && !slices.Contains(pureFiles, f.path) {
			continue
		}
		for _, imp := range f.imports {
			if reason, bad := impure[imp]; bad && !(imp == "net" && onlySplits(f.ast)) {
				t.Errorf("%s imports %s: pure code does without it (%s)", f.path, imp, reason)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", f.path)
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if ok && x.Name == "time" && slices.Contains([]string{"Now", "After", "Sleep", "Since", "Until", "NewTimer", "NewTicker", "Tick", "AfterFunc"}, n.Sel.Name) {
					t.Errorf("%s reads the clock by time.%s: take now as an argument", f.path, n.Sel.Name)
				}
			}
			return true
		})
	}
}

// onlySplits reports whether a file uses of package net only what takes
// addresses apart and puts them together.
func onlySplits(f *ast.File) bool {
	ok := true
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, is := n.(*ast.SelectorExpr); is {
			if x, is := sel.X.(*ast.Ident); is && x.Name == "net" && sel.Sel.Name != "SplitHostPort" && sel.Sel.Name != "JoinHostPort" {
				ok = false
			}
		}
		return true
	})
	return ok
}

func TestEveryPackageTellsItsIdea(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range sources(t) {
		documented[f.pkg] = documented[f.pkg] || f.ast.Doc != nil && len(f.ast.Doc.Text()) > 100
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment of more than a line: say what its idea is and show the call its user writes", pkg)
		}
	}
}

func TestNoPackageIsCalledAfterNothing(t *testing.T) {
	for _, f := range sources(t) {
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "model", "manager"}, f.ast.Name.Name) {
			t.Errorf("%s: package %s says nothing of its subject", f.path, f.ast.Name.Name)
		}
	}
}

// within returns the folder of an import path of ours.
func within(imp string) (string, bool) {
	if imp == module {
		return ".", true
	}
	return strings.CutPrefix(imp, module+"/")
}

func sources(t *testing.T) []file {
	t.Helper()
	root := moduleRoot(t)
	var out []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		f := file{path: filepath.ToSlash(rel), pkg: filepath.ToSlash(filepath.Dir(rel)), ast: parsed}
		for _, imp := range parsed.Imports {
			p, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, p)
		}
		out = append(out, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 20 {
		t.Fatalf("only %d source files found below %s", len(out), root)
	}
	return out
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = parent
	}
}
