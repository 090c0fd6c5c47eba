package border_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/translator"
)

// testdata: parse prints what documents come to, or every fault of them.
func TestDocuments(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, file string) {
		datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "parse" {
				d.Fatalf(t, "unknown verb %s", d.Cmd)
			}
			set, err := border.Parse("d.yaml", []byte(d.Input))
			if err != nil {
				return err.Error() + "\n"
			}
			return text(set)
		})
	})
}

func text(set border.Set) string {
	var b strings.Builder
	for _, a := range set.Aliases {
		fmt.Fprintf(&b, "%s%s -> %s", a.Host, a.Path, a.Prefix)
		if a.StripPath {
			b.WriteString(" stripped")
		}
		if a.From&translator.Pods != 0 {
			b.WriteString(" from=pods")
		}
		if a.From&translator.Outside != 0 {
			b.WriteString(" from=outside")
		}
		b.WriteByte('\n')
	}
	for _, e := range set.Externals {
		fmt.Fprintf(&b, "%s:%d %s by %s timeout=%s retries=%d", e.Host, e.Port, e.Protocol, e.Name, e.Timeout, e.Retries)
		if e.ServerName != "" {
			fmt.Fprintf(&b, " tls=%s ca=%s", e.ServerName, e.CA)
		}
		if len(e.Endpoints) > 0 {
			fmt.Fprintf(&b, " endpoints=%v", e.Endpoints)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

const alias = `apiVersion: dmsc.io/v1alpha1
kind: HostAlias
metadata: {name: %s}
spec: {hosts: [%s.example], path: %q, prefix: a/1}
`

func TestTheOrderOfDocumentsHasNoInfluence(t *testing.T) {
	var docs []string
	for i := range 8 {
		docs = append(docs, fmt.Sprintf(alias, fmt.Sprintf("n%d", i), string(rune('a'+i%3)), fmt.Sprintf("/p%d", i)))
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	var want border.Set
	for i := range 20 {
		rng.Shuffle(len(docs), func(i, j int) { docs[i], docs[j] = docs[j], docs[i] })
		got, err := border.Parse("d.yaml", []byte(strings.Join(docs, "---\n")))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			want = got
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %v, before it was %v", seed, got, want)
		}
	}
}

func TestAFolderWithoutDocumentsLetsNothingPassAndAMissingOneIsAFault(t *testing.T) {
	dir := t.TempDir()
	if set, err := border.Load(dir); err != nil || len(set.Aliases)+len(set.Externals) > 0 {
		t.Errorf("%+v, error %v", set, err)
	}
	if _, err := border.Load(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "DMSC100") {
		t.Errorf("error %v", err)
	}
}

// A set with a fault is no set: nothing of it comes into force.
func TestOneBadFileKeepsTheWholeFolderOut(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"a.yaml": fmt.Sprintf(alias, "one", "a", "/x"),
		"b.yaml": fmt.Sprintf(alias, "two", "a", "/x"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, err := border.Load(dir)
	if err == nil || len(set.Aliases) != 0 {
		t.Fatalf("%v, error %v", set, err)
	}
	want := fmt.Sprintf("%s/b.yaml:4:16: DMSC303 HostAlias one at %s/a.yaml:4:16 claims a.example/x from pods already", dir, dir)
	if err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
