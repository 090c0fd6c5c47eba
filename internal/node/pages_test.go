package node

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/xds"
)

// Fields of other packages reach the pages under our names only.
func TestPagesAreLowerSnakeCaseWithoutNulls(t *testing.T) {
	key := regexp.MustCompile(`"([^"]*)":`)
	snake := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	for name, v := range map[string]any{
		"xds":    xdsStatus(xds.Status{LastNack: &xds.Nack{Type: xds.Routes, When: time.Now()}}, split{}, time.Now()),
		"node":   contentOf(&linkstate.NodeLSA{Role: dmsc.RoleSR, Links: []linkstate.Link{{Remote: "sg-1", ID: "0"}}}),
		"prefix": contentOf(&linkstate.PrefixLSA{Prefixes: []linkstate.Prefix{{Prefix: dmsc.MustParsePrefix("a/1")}}}),
		"auth":   contentOf(&linkstate.AuthLSA{POA: []byte{1}}),
		"empty":  []any{contentOf(&linkstate.NodeLSA{}), contentOf(&linkstate.PrefixLSA{})},
	} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		keys := key.FindAllStringSubmatch(string(text), -1)
		if len(keys) == 0 {
			t.Errorf("%s is %s", name, text)
		}
		for _, k := range keys {
			if !snake.MatchString(k[1]) {
				t.Errorf("%s has the key %s", name, k[1])
			}
		}
		if regexp.MustCompile(`\bnull\b`).Match(text) {
			t.Errorf("%s has a null: %s", name, text)
		}
	}
	if v := contentOf(nil); v != nil {
		t.Errorf("the content of a tombstone is %v", v)
	}
}

func readJSON(t *testing.T, w *httptest.ResponseRecorder, v any) {
	t.Helper()
	if w.Code != http.StatusOK {
		t.Fatalf("it answers %d: %s", w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		t.Fatal(err)
	}
}
