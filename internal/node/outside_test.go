package node

import (
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/translator"
)

// What Envoy is given is good, lasts over whatever becomes of the operator's
// files and of ours, and its end is told in time.
func TestTheLastGoodCertificateIsKeptForEnvoyAndItsEndIsToldInTime(t *testing.T) {
	s := httptest.NewTLSServer(nil)
	s.Close()
	der, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	chain, key := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	dir := t.TempDir()
	cfg := &config.Node{Node: "sg-1", Listen: config.NodeListen{XDS: "unix://" + filepath.Join(dir, "xds.sock")}}
	cfg.Outside = config.Outside{Listen: "127.0.0.1:443", Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	n := &Node{cfg: cfg, log: slog.New(slog.DiscardHandler), metrics: newMetrics()}
	write := func(file string, data []byte) {
		t.Helper()
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ends := s.Certificate().NotAfter
	day := func(d int) time.Time { return ends.AddDate(0, 0, -d) }
	look := func(now time.Time, words string, codes ...string) {
		t.Helper()
		certificateRead{n.handOver(n.loop.outside.served, now)}.apply(n, now)
		got := []string{}
		for _, a := range n.loop.alarms {
			got = append(got, a.Code)
		}
		if st := n.outsideStatus(n.loop.outside); !slices.Equal(got, codes) || !strings.Contains(st.Refused, words) || (words == "") != (st.Refused == "") {
			t.Errorf("alarms %q, status %+v", got, st)
		}
	}
	kept := func() {
		t.Helper()
		if p := n.lastPair(); !p.Equal(border.Pair{Chain: chain, Key: key}) || !p.Ends.Equal(ends) {
			t.Errorf("Envoy is given %v", p)
		}
		if info, err := os.Stat(n.secretFile()); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("the file is %v, %v", info, err)
		}
	}

	write(cfg.Outside.Key, key)
	look(day(90), "cert.pem: no such file or directory; put the whole file there, for the user of the agent to read; until then the gateway has no listener", "certificate_refused")
	n.outside = translator.OutsideListener{Address: cfg.Outside.Listen, SecretFile: n.secretFile()}
	if n.outsideListener() != (translator.OutsideListener{}) {
		t.Error("there is a listener without a certificate")
	}
	write(cfg.Outside.Certificate, chain)
	look(day(90), "")
	kept()
	if n.outsideListener() != n.outside {
		t.Error("there is no listener")
	}
	look(day(15), "")
	look(day(13), "", "certificate_expiring")
	look(day(12), "", "certificate_expiring")
	look(day(-1), "expired at", "certificate_expiring", "certificate_refused")
	look(day(90), "") // as a renewed one would
	write(cfg.Outside.Certificate, chain[:50])
	look(day(90), "damaged", "certificate_refused")
	kept()
	if err := os.Remove(n.secretFile()); err != nil {
		t.Fatal(err)
	}
	look(day(90), "damaged", "certificate_refused")
	kept()

	// Another agent begins with it.
	n.loop.outside = outside{served: n.lastPair()}
	look(day(90), "until then the one from before is served", "certificate_refused")
	write(n.secretFile(), []byte("damaged"))
	if p := n.lastPair(); !p.Ends.IsZero() {
		t.Errorf("a damaged file is %v", p)
	}
}
