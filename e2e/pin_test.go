package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/client"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

// A gateway that is pinned to an earlier configuration withholds the prefix that
// its Envoy cannot serve: nobody is sent there, also when its agent has been
// killed and started again. resume brings the prefix back.
func TestAPinnedGatewayWithholdsWhatItsEnvoyCannotServeOverARestart(t *testing.T) {
	n := start(t, "")
	n.announce(t, "sg-1", "test/old", ok)
	n.reachable(t, "sg-4", "test/old", 200)
	n.settle(t)
	sg1 := n.Node("sg-1")
	state := filepath.Join(sg1.Dir, "state")
	out, err := exec.Command(binary, "xds", "history", "--state-dir", state, "-o", "json").Output()
	var before []node.HistoryStatus
	if err != nil || json.Unmarshal(out, &before) != nil || len(before) != 1 || len(before[0].Generations) == 0 {
		t.Fatalf("%v: history says %s", err, out)
	}
	late := n.announce(t, "sg-1", "test/new", ok)
	n.reachable(t, "sg-4", "test/new", 200)

	at := time.Now()
	if code, out := dmscRun(t, nil, "xds", "rollback", "--state-dir", state, "--to", before[0].Generations[0].Version); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	t.Logf("measured: dmsc xds rollback took %v", since(at))
	withheld := func(when string) {
		t.Helper()
		until(t, 10*time.Second, "test/new is withheld "+when, func(ctx context.Context) error {
			s, err := n.Status(ctx, "sg-1")
			if err != nil {
				return err
			}
			p, st := s.Envoy.XDS.Pinned, late.status()
			if p == nil || !slices.Equal(p.Withheld, []string{"test/new"}) || !s.Ready || !s.LSDB.Synced || st.State != client.Pending || st.Code != "gateway_pinned" {
				return fmt.Errorf("pinned %+v, ready %v, the pod hears %+v", p, s.NotReady, st)
			}
			return nil
		})
		n.gone(t, "sg-4", "test/new", 5*time.Second)
		n.absent(t, "test/new")
		n.reachable(t, "sg-4", "test/old", 200)
	}
	withheld("by the pin")

	if err := sg1.Agent.Kill(); err != nil {
		t.Fatal(err)
	}
	<-sg1.Agent.Done()
	if err := n.StartDaemon(sg1.Agent); err != nil {
		t.Fatal(err)
	}
	withheld("by the next agent")

	at = time.Now()
	if code, out := dmscRun(t, nil, "xds", "resume", "--state-dir", state); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	n.reachable(t, "sg-4", "test/new", 200)
	t.Logf("measured: test/new was back at sg-4 %v after resume began", since(at))
	n.settle(t)
}
