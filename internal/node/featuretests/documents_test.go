package featuretests

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// An operator edits the documents of a running gateway, makes a mistake, and
// mends it.
func TestDocumentsComeIntoForceWhenTheyChangeAndABadOneChangesNothing(t *testing.T) {
	n := prepare(t, line1, line2)
	dir := filepath.Join(n.dir, "documents")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, file), []byte("apiVersion: dmsc.io/v1alpha1\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("orders.yaml", "kind: HostAlias\nmetadata: {name: orders}\nspec: {hosts: [orders.example], prefix: a/1}\n")
	sg1 := n.nodes["sg-1"]
	sg1.cfg.Documents = dir
	n.start()
	n.pod("pod-2", "sg-2", service("a/1"))
	n.routed("sg-1", "a/1", "sr-1")
	has := func(host string) func() error {
		return func() error {
			hosts := sg1.envoy.hosts("dmsc/ingress")
			return when(slices.Contains(hosts, host), "the ingress has %v", hosts)
		}
	}
	n.until("the alias of the start is at Envoy", has("dmsc/alias/orders!example"))

	write("shop.yaml", "kind: HostAlias\nmetadata: {name: shop}\nspec: {hosts: [shop.example], path: /cart, prefix: a/1}\n")
	n.until("the second alias is at Envoy", has("dmsc/alias/shop!example"))
	counts := func(aliases, externals int) func() error {
		return func() error { // readers see it a moment after Envoy
			s := sg1.Status().Documents
			return when(s != nil && s.HostAliases == aliases && s.ExternalServices == externals && s.Refused == "", "the status is %+v", s)
		}
	}
	n.until("two aliases are shown", counts(2, 0))

	// The good file beside the bad one does not come into force either.
	write("bad.yaml", "kind: HostAlias\nmetadata: {name: bad}\nspec: {hosts: [orders.example], prefix: b/1}\n")
	write("more.yaml", "kind: HostAlias\nmetadata: {name: more}\nspec: {hosts: [more.example], prefix: a/1}\n")
	n.until("the conflict is told", func() error {
		s := sg1.Status().Documents
		return when(strings.Contains(s.Refused, "DMSC303") && strings.Contains(s.Refused, "orders.yaml:4:16"), "refused is %q", s.Refused)
	})
	if m := sg1.metrics(); !strings.Contains(m, `dmsc_alarms_total{code="documents_refused"}`) {
		t.Error("no alarm is counted")
	}
	if err := has("dmsc/alias/shop!example")(); err != nil {
		t.Error(err)
	}
	if has("dmsc/alias/more!example")() == nil {
		t.Error("a bad file has changed what runs")
	}

	// Envoy would refuse the whole cluster over a file that is not there.
	write("bad.yaml", "kind: ExternalService\nmetadata: {name: pay}\nspec: {hosts: [pay.example], port: 443, tls: {ca: /no/such.pem}}\n")
	n.until("the missing certificates are told", func() error {
		s := sg1.Status().Documents
		return when(strings.Contains(s.Refused, "/no/such.pem"), "refused is %q", s.Refused)
	})

	if err := os.Remove(filepath.Join(dir, "bad.yaml")); err != nil {
		t.Fatal(err)
	}
	n.until("the rest is at Envoy", has("dmsc/alias/more!example"))
	n.until("three aliases are shown", counts(3, 0))
	write("pay.yaml", "kind: ExternalService\nmetadata: {name: pay}\nspec: {hosts: [pay.example], port: 80}\n")
	n.until("the way out is at Envoy", has("dmsc/external/pay!example/80"))
	n.until("the way out is shown", counts(3, 1))

	// What only Envoy finds wrong is left out, and the rest goes on.
	sg1.envoy.set(func() { sg1.envoy.refuse = "dmsc/external/odd/odd!example" })
	write("odd.yaml", "kind: ExternalService\nmetadata: {name: odd}\nspec: {hosts: [odd.example], port: 80}\n")
	n.until("the refusal is told", func() error {
		s := sg1.Status().Documents
		return when(s.Refused == "external_service odd (odd.example:80): refused by Envoy, and left out: dmsc/external/odd/odd!example: the words of Envoy", "refused is %q", s.Refused)
	})
	n.settled("sg-1")
	if has("dmsc/external/pay!example/80")() != nil || has("dmsc/external/odd!example/80")() == nil || len(sg1.Status().Refusals) > 0 {
		t.Errorf("the ingress has %v", sg1.envoy.hosts("dmsc/ingress"))
	}
	// It is not tried again because of another one.
	nacks := func() (out string) {
		for line := range strings.Lines(sg1.metrics()) {
			if strings.HasPrefix(line, "dmsc_xds_nacks_total") {
				out += line
			}
		}
		return out
	}
	before := nacks()
	write("more.yaml", "kind: HostAlias\nmetadata: {name: more}\nspec: {hosts: [even.more.example], prefix: a/1}\n")
	n.until("an edit of another one is at Envoy", has("dmsc/alias/even!more!example"))
	n.settled("sg-1")
	if after := nacks(); before == "" || after != before {
		t.Errorf("the refusals were\n%sand are\n%s", before, after)
	}
	alarms := func(codes ...string) func() error {
		return func() error {
			got := []string{}
			for _, a := range sg1.Status().Alarms {
				got = append(got, a.Code)
			}
			return when(slices.Equal(got, codes), "the alarms are %v", got)
		}
	}
	n.until("what is mended is no alarm, and what is not is", alarms("document_suspended"))
	sg1.envoy.set(func() { sg1.envoy.refuse = "" })
	write("odd.yaml", "kind: ExternalService\nmetadata: {name: odd}\nspec: {hosts: [odd.example], port: 80, retries: 1}\n")
	n.until("the mended one is at Envoy", has("dmsc/external/odd!example/80"))
	n.until("no alarm is left", alarms())
}

// An edit that only Envoy finds wrong does not take the way out from those who
// use it, and mending the file it names is enough to bring it into force.
func TestARefusedEditOfADocumentChangesNothingAndMendingItsFileHeals(t *testing.T) {
	n := prepare(t, line1, line2)
	s := httptest.NewTLSServer(nil)
	s.Close()
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	write := func(file, text string) string {
		t.Helper()
		path := filepath.Join(n.dir, file)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	document := func(port int, ca string) string {
		return fmt.Sprintf("apiVersion: dmsc.io/v1alpha1\nkind: ExternalService\nmetadata: {name: partner}\nspec: {hosts: [partner.example], port: %d, tls: {ca: %s}}\n", port, ca)
	}
	old, edited := write("old.pem", certificate), write("new.pem", certificate)
	sg1 := n.nodes["sg-1"]
	sg1.cfg.Documents = write("partner.yaml", document(443, old))
	n.start()
	host := func(port int) func() error {
		want := fmt.Sprintf("dmsc/external/partner!example/%d", port)
		return func() error {
			hosts := sg1.envoy.hosts("dmsc/ingress")
			return when(slices.Contains(hosts, want), "the ingress has %v", hosts)
		}
	}
	n.until("the way out is at Envoy", host(443))
	n.settled("sg-1")

	sg1.envoy.set(func() { sg1.envoy.refuse = "dmsc/external/partner/partner!example" })
	write("partner.yaml", document(8443, edited))
	n.until("the refusal is told", func() error {
		s := sg1.Status().Documents
		return when(strings.Contains(s.Refused, "refused by Envoy, and kept at its last good version: ") && s.ExternalServices == 1, "the status is %+v", s)
	})
	n.settled("sg-1")
	if err := host(443)(); err != nil || host(8443)() == nil {
		t.Errorf("the last good way out is not kept: %v", err)
	}
	if m := sg1.metrics(); !strings.Contains(m, `dmsc_alarms_total{code="document_suspended"}`) {
		t.Error("no alarm is counted")
	}

	// Nor does a restart of the agent take it from them.
	sg1.stop()
	sg1.start()
	n.until("the refusal is told again", func() error {
		s := sg1.Status().Documents
		return when(strings.Contains(s.Refused, "refused by Envoy, and kept at its last good version: ") && s.ExternalServices == 1, "the status is %+v", s)
	})
	n.settled("sg-1")
	if err := host(443)(); err != nil || host(8443)() == nil {
		t.Errorf("the last good way out is not kept: %v", err)
	}
	// What is no document at all does not keep a gateway from starting that has served.
	sg1.stop()
	write("partner.yaml", "kind: Nonsense\n")
	sg1.start()
	n.settled("sg-1")
	if s := sg1.Status().Documents; !strings.Contains(s.Refused, "partner.yaml:1") || s.ExternalServices != 1 {
		t.Errorf("the status is %+v", s)
	}
	if err := host(443)(); err != nil {
		t.Error(err)
	}
	write("partner.yaml", document(8443, edited))
	n.until("the refusal is told again", func() error {
		s := sg1.Status().Documents
		return when(strings.Contains(s.Refused, "refused by Envoy, and kept at its last good version: "), "the status is %+v", s)
	})

	// A file with a bad block does not get as far as Envoy.
	write("new.pem", certificate+"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
	n.until("the bad block is told", func() error {
		s := sg1.Status().Documents
		return when(strings.Contains(s.Refused, "the PEM block is damaged"), "the status is %+v", s)
	})
	if err := host(443)(); err != nil {
		t.Error(err)
	}
	sg1.envoy.set(func() { sg1.envoy.refuse = "" })
	write("new.pem", "# renewed\n"+certificate)
	n.until("the edit is at Envoy", host(8443))
	n.settled("sg-1")
	if s := sg1.Status().Documents; s.Refused != "" {
		t.Errorf("refused is %q", s.Refused)
	}
}
