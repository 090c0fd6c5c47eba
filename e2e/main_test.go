package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/envoybin"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/topology"
)

// What TestMain has found and built.
var (
	binary string
	envoy  envoybin.Binary
	root   string // of the folders of all networks; short, for Unix sockets
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	fail := func(what string, err error) int {
		fmt.Fprintf(os.Stderr, "e2e: %s: %v\n", what, err)
		return 1
	}
	var err error
	if envoy, err = envoybin.Find(context.Background()); err != nil {
		return fail("find Envoy", err)
	}
	if root, err = os.MkdirTemp("", "e2e"); err != nil {
		return fail("make folder", err)
	}
	defer func() {
		if code == 0 {
			err = os.RemoveAll(root)
		}
	}()
	binary = filepath.Join(root, "dmsc")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/dmsc-mesh/dmsc/cmd/dmsc").CombinedOutput(); err != nil {
		return fail("build dmsc", fmt.Errorf("%w\n%s", err, out))
	}
	code = m.Run()
	if err := closeShared(); err != nil && code == 0 {
		code = fail("close the shared network", err)
	}
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			code = fail("goroutines are left", err)
		}
	}
	return code
}

// figure2 is the draft's network with a gRPC and a TCP service on pod-3. What
// the tests announce themselves is granted as well: any name below test/, by
// the pod "tester", at any gateway.
//
// Its links are of the class wan: on a machine that does other things as well,
// an Envoy that is silent for half a second is not dead. What is killed here
// is noticed at once, whatever the class.
func figure2() *topology.Topology {
	t := topology.Figure2()
	for i := range t.Links {
		t.Links[i].Class = dmsc.WAN
	}
	for i := range t.Pods {
		if t.Pods[i].Name == "pod-3" {
			t.Pods[i].Services = append(t.Pods[i].Services,
				topology.Service{Prefix: dmsc.MustParsePrefix("g/1"), Protocol: dmsc.GRPC, Weight: 1, Port: 1, Address: "127.0.0.1"},
				topology.Service{Prefix: dmsc.MustParsePrefix("t/1"), Protocol: dmsc.TCP, Weight: 1, Port: 1, Address: "127.0.0.1"},
			)
		}
	}
	return t
}

func grants(t *topology.Topology) []byte {
	return append(t.Grants(), "    - {holder: tester, prefix: test, scope: subtree}\n"...)
}

// qos makes a link that is 80 ms slow a reason to go elsewhere within three
// seconds, and its healing a reason to come back.
const qos = `apiVersion: dmsc.io/v1alpha1
kind: QoSPolicy
metadata: {name: fast}
spec:
  thresholds:
    delay: {enter: 40ms, clear: 20ms}
  trigger: {samples: 3of5}
  recovery: {holdDown: 2s}
`

// network is a running network; what goes wrong in it fails the test.
type network struct {
	*lab.Network
	dir string
}

// launch starts a network and waits until it is of use.
func launch(policies string, with ...func(*lab.Options)) (*network, error) {
	dir, err := os.MkdirTemp(root, "")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	top := figure2()
	opts := lab.Options{
		Topology: top, Grants: grants(top), Policies: []byte(policies), Dir: dir, Binary: binary, Envoy: envoy,
	}
	for _, f := range with {
		f(&opts)
	}
	n, err := lab.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := n.WaitConverged(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return &network{n, dir}, nil
}

// start starts a network for one test.
func start(t *testing.T, policies string, with ...func(*lab.Options)) *network {
	t.Helper()
	at := time.Now()
	n, err := launch(policies, with...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("measured: cold start of %d nodes to converged %v", len(n.IDs()), since(at))
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		n.tell(t)
	})
	return n
}

// The network of all tests that break nothing.
var common struct {
	once sync.Once
	net  *network
	err  error
}

// shared returns the network that tests share, settled.
func shared(t *testing.T) *network {
	t.Helper()
	common.once.Do(func() { common.net, common.err = launch("") })
	if common.err != nil {
		t.Fatal(common.err)
	}
	common.net.settle(t)
	t.Cleanup(func() { common.net.tell(t) })
	return common.net
}

func closeShared() error {
	if common.net == nil {
		return nil
	}
	return common.net.Close()
}

// settle waits until the network is of use again.
func (n *network) settle(t *testing.T, absent ...dmsc.NodeID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.WaitConverged(ctx, absent...); err != nil {
		t.Fatal(err)
	}
}

// tell says where to look after a failure.
func (n *network) tell(t *testing.T) {
	if t.Failed() {
		t.Logf("configurations and logs are in %s", n.dir)
	}
}

// log returns what a process of the network has logged.
func (n *network) log(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(n.Path("logs", name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// gateways of Figure 2.
var gateways = []dmsc.NodeID{"sg-1", "sg-2", "sg-3", "sg-4"}

// until waits for a condition, and fails the test when limit passes first. It
// returns how long it took.
func until(t *testing.T, limit time.Duration, what string, condition func(context.Context) error) time.Duration {
	t.Helper()
	at := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := lab.Until(ctx, what, condition); err != nil {
		t.Fatal(err)
	}
	return since(at)
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }

// run runs dmsc to its end and returns its exit code and standard error.
func dmscRun(t *testing.T, env []string, args ...string) (code int, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), env...)
	var errs strings.Builder
	cmd.Stderr = &errs
	err := cmd.Run()
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		t.Fatalf("dmsc %s did not end:\n%s", strings.Join(args, " "), errs.String())
	case err != nil && !errors.As(err, &ended):
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), errs.String()
}
