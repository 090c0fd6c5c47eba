package border_test

import (
	"encoding/pem"
	"io/fs"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/translator"
)

func TestADocumentGoesBackUnlessAnotherClaimsItsRequestsByNow(t *testing.T) {
	pay := border.Ref{Kind: border.KindExternal, Name: "pay"}
	earlier := border.Set{Externals: []translator.External{{Name: "mail", Host: "mail.example", Port: 25}, {Name: "pay", Host: "pay.example", Port: 80}}}
	other := translator.External{Name: "mail", Host: "mail.example", Port: 587}
	edited := translator.External{Name: "pay", Host: "pay.example", Port: 81}
	for what, c := range map[string]struct {
		now  border.Set
		want border.Set
		ok   bool
	}{
		"the others stay as they are": {
			border.Set{Externals: []translator.External{other, edited}},
			border.Set{Externals: []translator.External{other, earlier.Externals[1]}}, true,
		},
		"another lets the same requests out": {
			border.Set{Externals: []translator.External{{Name: "new", Host: "pay.example", Port: 80}, edited}},
			border.Set{Externals: []translator.External{{Name: "new", Host: "pay.example", Port: 80}}}, false,
		},
		"the host is inside by now": {
			border.Set{Aliases: []translator.Alias{{Name: "pay", Host: "pay.example", From: translator.Pods}}, Externals: []translator.External{edited}},
			border.Set{Aliases: []translator.Alias{{Name: "pay", Host: "pay.example", From: translator.Pods}}}, false,
		},
	} {
		got, ok := c.now.Revert(pay, earlier)
		if ok != c.ok || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v %+v", what, ok, got)
		}
	}
	if got, ok := earlier.Revert(pay, border.Set{}); ok || len(got.Externals) != 1 {
		t.Errorf("what was never there is back: %+v", got)
	}
}

// Envoy takes a file of certificates as a whole or not at all.
func TestAFileOfCertificatesIsGoodToItsLastBlock(t *testing.T) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	good := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	bundle := append([]byte("# a comment\n"), good...)
	set := border.Set{Externals: []translator.External{{Name: "pay", ServerName: "pay.example", CA: "ca.pem"}, {Name: "plain", CA: "never"}}}
	digests := map[string]bool{} // one for each content
	for what, c := range map[string]struct{ text, fault string }{
		"two good ones":  {string(bundle) + string(good), ""},
		"no newline":     {strings.TrimSpace(string(good)), ""},
		"damaged base64": {string(bundle) + "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "the PEM block is damaged"},
		"an open block":  {"-----BEGIN CERTIFICATE-----\nAAAA\n" + string(good), "ca.pem:1: the PEM block is damaged"},
		"no certificate": {string(bundle) + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "the certificate cannot be read"},
		"nothing":        {"", "ca.pem holds no certificate"},
		"something else": {"hello\n", "ca.pem holds no certificate"},
		"a missing file": {"missing", "file does not exist"},
	} {
		got, err := set.CheckFiles(func(string) ([]byte, error) {
			if c.text == "missing" {
				return nil, fs.ErrNotExist
			}
			return []byte(c.text), nil
		})
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil {
			if d := got.Externals[0].CADigest; d == "" || digests[d] || got.Externals[1].CADigest != "" || set.Externals[0].CADigest != "" {
				t.Errorf("%s: digests %+v", what, got)
			}
			digests[got.Externals[0].CADigest] = true
		}
		if err != nil && !strings.HasPrefix(err.Error(), "external service pay: tls.ca: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
