package e2e_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

func (n *network) status(t *testing.T, id dmsc.NodeID) node.Status {
	t.Helper()
	s, err := n.Status(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A pod that takes its prefix back is unreachable everywhere within a second.
func TestAWithdrawnPrefixIsGoneEverywhereWithinASecond(t *testing.T) {
	n := shared(t)
	p := n.announce(t, "sg-4", "test/gone", ok)
	for _, gw := range gateways {
		n.reachable(t, gw, "test/gone", 200)
	}
	at := time.Now()
	p.withdraw()
	var all sync.WaitGroup
	for _, gw := range gateways {
		all.Go(func() { n.gone(t, gw, "test/gone", time.Second) })
	}
	all.Wait()
	t.Logf("measured: a withdrawn prefix was gone at all gateways after %v", since(at))
	n.absent(t, "test/gone")
}

// An announced prefix is reachable everywhere soon.
func TestANewPrefixIsReachableEverywhere(t *testing.T) {
	n := shared(t)
	at := time.Now()
	n.announce(t, "sg-4", "test/new", ok)
	for _, gw := range gateways {
		n.reachable(t, gw, "test/new", 200)
	}
	t.Logf("measured: a new prefix was reachable at all gateways after %v", since(at))
}

// A pod that dies keeps its announcement for its lease, so that it can come
// back; its prefix answers 503 no-healthy until the gateway has taken it out of
// the network, a second after its last healthy instance (design §5, delivery).
func TestADeadPodAnswers503UntilItsPrefixIsWithdrawn(t *testing.T) {
	n := shared(t)
	const name, lease = "test/mortal", 6 * time.Second
	run := func() *lab.Process {
		t.Helper()
		p, err := n.Run(io.Discard, "toy", "--pod", "tester", "--prefix", name, "--gateway", n.Node("sg-4").Agent.Listen, "--lease", lease.String())
		if err != nil {
			t.Fatal(err)
		}
		for _, gw := range gateways {
			n.reachable(t, gw, name, 200)
		}
		return p
	}
	kill := func(p *lab.Process) {
		t.Helper()
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
	}
	announced := func() bool {
		for _, p := range n.status(t, "sg-4").Pods {
			if p.Prefix == name {
				return true
			}
		}
		return false
	}

	kill(run())
	at := time.Now()
	unhealthy := 0
	withdrawn := until(t, 5*time.Second, "the prefix of the dead pod stays", func(context.Context) error {
		a := n.get(t, "sg-1", name)
		switch {
		case a.status == 404 && a.refusal == "no-route; node=sg-1":
			return nil
		case a.status == 503 && a.refusal == "no-healthy; node=sg-4":
			unhealthy++
		case a.status == 404 && strings.HasPrefix(a.refusal, "no-route; "):
			// sg-1 is the last to hear of the withdrawal.
		default:
			t.Errorf("%v after its death the pod's prefix answers %d %q", since(at), a.status, a.refusal)
		}
		return fmt.Errorf("%d %s", a.status, a.refusal)
	})
	t.Logf("measured: the prefix of a dead pod answered 503 no-healthy %d times, and was withdrawn after %v", unhealthy, withdrawn)
	if unhealthy == 0 {
		t.Error("it never answered no-healthy")
	}
	for _, gw := range gateways {
		n.gone(t, gw, name, time.Second)
	}
	if !announced() {
		t.Errorf("the gateway has forgotten the announcement %v after the pod's death; its lease is %v", since(at), lease)
	}

	// Within its lease it comes back; after it, it is forgotten.
	p := run()
	kill(p)
	at = time.Now()
	until(t, lease+3*time.Second, "the lease does not run out", func(context.Context) error {
		if announced() {
			return fmt.Errorf("announced still")
		}
		return nil
	})
	if s := since(at); s < lease-lease/3 {
		t.Errorf("the announcement is forgotten after %v, before its lease of %v", s, lease)
	}
	t.Logf("measured: a lease of %v was over %v after the pod's death", lease, since(at))
}
