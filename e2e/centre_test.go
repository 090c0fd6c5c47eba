package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/client"
	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// ok answers 200.
func ok(http.ResponseWriter, *http.Request) {}

// spaStatus is the status page of the SPA.
type spaStatus struct {
	Generation uint64        `json:"generation"`
	Grants     int           `json:"grants"`
	Gateways   []dmsc.NodeID `json:"gateways"`
	LastError  string        `json:"last_error"`
}

func (n *network) spaStatus(t *testing.T) spaStatus {
	t.Helper()
	var s spaStatus
	if err := lab.Get(t.Context(), n.SPA.Health, "/api/v1/status", &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// edit replaces a file of the network as an editor does, until the test ends.
func (n *network) edit(t *testing.T, name, text string) {
	t.Helper()
	path := n.Path(name)
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(b []byte) {
		if err := os.WriteFile(path+".new", b, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { replace(was) })
	replace([]byte(text))
}

// faulty matches where a fault is: file:line:column and its code.
var faulty = regexp.MustCompile(`\.yaml:\d+:\d+: DMSC\d+`)

// A running SPA keeps its last good grants, says what is wrong where, and takes
// the next good file.
func TestABadEditOfTheGrantsKeepsTheLastGoodOnes(t *testing.T) {
	n := shared(t)
	before := n.spaStatus(t)
	if before.LastError != "" || before.Grants == 0 {
		t.Fatalf("%+v", before)
	}
	good := string(grants(figure2()))
	n.edit(t, "spa/grants.yaml", strings.Replace(good, "holder", "holderr", 1))
	until(t, 5*time.Second, "the bad file is not reported", func(context.Context) error {
		if s := n.spaStatus(t); s.LastError == "" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	s := n.spaStatus(t)
	if s.Generation != before.Generation || s.Grants != before.Grants || !faulty.MatchString(s.LastError) {
		t.Errorf("after a bad edit: %+v", s)
	}
	if log := n.log(t, "spa"); !strings.Contains(log, "the last good grants stay in force") {
		t.Errorf("the log does not say that the last good grants stay in force:\n%s", log)
	}
	n.announce(t, "sg-2", "test/granted", ok) // by the last good ones
	n.reachable(t, "sg-1", "test/granted", 200)

	n.edit(t, "spa/grants.yaml", good+"    - {holder: tester, prefix: late/1}\n")
	until(t, 5*time.Second, "the good file is not in force", func(context.Context) error {
		if s := n.spaStatus(t); s.LastError != "" || s.Grants != before.Grants+1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	n.announce(t, "sg-3", "late/1", ok)
	n.reachable(t, "sg-1", "late/1", 200)
}

// A grant that is taken away is a notification to the gateway, which withdraws
// the prefix and tells the pod (draft §4.2(2)).
func TestARevokedGrantWithdrawsThePrefix(t *testing.T) {
	n := shared(t)
	p := n.announce(t, "sg-2", "test/revoked", ok)
	n.reachable(t, "sg-1", "test/revoked", 200)
	n.edit(t, "spa/grants.yaml", string(grants(figure2()))+"    - {prefix: test/revoked, deny: true}\n")
	at := time.Now()
	until(t, 5*time.Second, "the pod is not told", func(context.Context) error {
		if s := p.status(); s.State != client.Denied {
			return fmt.Errorf("%s", s.State)
		}
		return nil
	})
	for _, gw := range gateways {
		n.gone(t, gw, "test/revoked", time.Second)
	}
	t.Logf("measured: a revoked prefix was gone everywhere %v after the edit", since(at))
	n.absent(t, "test/revoked")
}

// gone waits until a name has no route at a gateway.
func (n *network) gone(t *testing.T, gateway dmsc.NodeID, name string, limit time.Duration) {
	t.Helper()
	until(t, limit, fmt.Sprintf("%s at %s", name, gateway), func(context.Context) error {
		if a := n.get(t, gateway, name); a.status != 404 || a.refusal != "no-route; node="+string(gateway) {
			return fmt.Errorf("%d %s", a.status, a.refusal)
		}
		return nil
	})
}

// absent fails the test when a name stands in any node's database.
func (n *network) absent(t *testing.T, name string) {
	t.Helper()
	for _, id := range n.IDs() {
		var rows []lsa
		if err := lab.Get(t.Context(), n.Node(id).Agent.Health, "/api/v1/lsdb", &rows); err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if strings.Contains(string(r.Content), `"`+name+`"`) {
				t.Errorf("%s stands in the database of %s: %s %s", name, id, r.Key, r.Content)
			}
		}
	}
}

// A prefix that nobody granted is refused with the reason and is nowhere.
func TestARefusedPrefixIsNowhere(t *testing.T) {
	n := shared(t)
	p := n.announceOnly(t, "sg-2", "a/1/stolen", ok, 30*time.Second)
	until(t, 5*time.Second, "the pod is not refused", func(context.Context) error {
		if s := p.status(); s.State != client.Denied || s.Code != "wrong_holder" || !s.Final || !strings.Contains(s.Reason, "pod-1") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	n.absent(t, "a/1/stolen")
	for _, gw := range gateways {
		if a := n.get(t, gw, "a/1/stolen"); a.echo.Pod != "pod-1" {
			t.Errorf("a/1/stolen at %s is answered by %q, not by the owner of a/1: %d %s", gw, a.echo.Pod, a.status, a.refusal)
		}
	}
}

// A running SCSC keeps its last good policies, says what is wrong where, and
// takes the next good file. (TestADegradedLink… shows them at work.)
func TestABadEditOfThePoliciesKeepsTheLastGoodOnes(t *testing.T) {
	n := start(t, qos)
	judged := func(ctx context.Context) (string, error) {
		var rows []struct {
			Rule string `json:"rule"`
		}
		if err := lab.Get(ctx, n.SCSC.Health, "/api/v1/policies", &rows); err != nil {
			return "", err
		}
		if len(rows) == 0 {
			return "", nil
		}
		return rows[0].Rule, nil
	}
	rule := func(want string) {
		t.Helper()
		until(t, 10*time.Second, "the rule is not in force", func(ctx context.Context) error {
			if got, err := judged(ctx); err != nil || got != want {
				return fmt.Errorf("%q is in force, %v", got, err)
			}
			return nil
		})
	}
	rule("fast")
	n.edit(t, "scsc/policies/policies.yaml", strings.Replace(qos, "40ms", "40", 1))
	until(t, 5*time.Second, "the bad file is not reported", func(context.Context) error {
		log := n.log(t, "scsc")
		if !faulty.MatchString(log) {
			return fmt.Errorf("the log says:\n%s", log)
		}
		return nil
	})
	if got, err := judged(t.Context()); err != nil || got != "fast" {
		t.Errorf("after a bad edit %q is in force, %v", got, err)
	}
	n.edit(t, "scsc/policies/policies.yaml", strings.Replace(qos, "name: fast", "name: faster", 1))
	rule("faster")
}
