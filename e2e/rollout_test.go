package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// adsRelay stands between an Envoy and its agent. While foreign is set, what a
// policy brings in needs an extension that this Envoy is not built with. (No
// policy that passes our own checks is refused by an Envoy that is recent
// enough.) All else is as it was sent, and who refuses, with which words, is
// Envoy.
type adsRelay struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	agent   *grpc.ClientConn
	foreign atomic.Bool
	sent    atomic.Int64 // route tables with a policy
	refused atomic.Int64 // responses that Envoy refused
}

// relayed has the Envoy of a node started again behind a relay.
func (n *network) relayed(t *testing.T, id dmsc.NodeID) *adsRelay {
	t.Helper()
	dir := n.Node(id).Dir
	agent, between := filepath.Join(dir, "xds.sock"), filepath.Join(dir, "relay.sock")
	conn, err := grpc.NewClient("unix://"+agent, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", between)
	if err != nil {
		t.Fatal(err)
	}
	r := &adsRelay{agent: conn}
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, r)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := errors.Join(<-served, conn.Close()); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(dir, "envoy.yaml")
	boot, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.ReplaceAll(boot, []byte(agent), []byte(between)), 0o600); err != nil {
		t.Fatal(err)
	}
	envoy := n.Node(id).Envoy
	if err := envoy.Kill(); err != nil {
		t.Fatal(err)
	}
	<-envoy.Done()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.StartNode(ctx, id); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *adsRelay) DeltaAggregatedResources(envoy discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	ctx, cancel := context.WithCancel(envoy.Context())
	agent, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.agent).DeltaAggregatedResources(ctx)
	if err != nil {
		cancel()
		return err
	}
	go func() { // until the handler has returned
		defer cancel()
		for {
			request, err := envoy.Recv()
			if err != nil {
				return
			}
			if request.GetErrorDetail() != nil {
				r.refused.Add(1)
			}
			if agent.Send(request) != nil {
				return
			}
		}
	}()
	for {
		response, err := agent.Recv()
		if err != nil {
			return err
		}
		if err := errors.Join(r.change(response), envoy.Send(response)); err != nil {
			return err
		}
	}
}

// change has the virtual hosts of policies ask for what Envoy does not know.
func (r *adsRelay) change(response *discoveryv3.DeltaDiscoveryResponse) error {
	for _, resource := range response.GetResources() {
		table := new(routev3.RouteConfiguration)
		if resource.GetName() != "dmsc/ingress" || !resource.GetResource().MessageIs(table) {
			continue
		}
		if err := resource.GetResource().UnmarshalTo(table); err != nil {
			return err
		}
		policies := slices.DeleteFunc(slices.Clone(table.GetVirtualHosts()), func(h *routev3.VirtualHost) bool {
			return !strings.HasPrefix(h.GetName(), "dmsc/policy/")
		})
		if len(policies) == 0 {
			continue
		}
		r.sent.Add(1)
		if !r.foreign.Load() {
			continue
		}
		unknown, err := anypb.New(new(structpb.Struct))
		if err != nil {
			return err
		}
		for _, h := range policies {
			h.RetryPolicy.RetryHostPredicate = append(h.RetryPolicy.RetryHostPredicate, &routev3.RetryPolicy_RetryHostPredicate{
				Name: foreignExtension, ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: unknown},
			})
		}
		if resource.Resource, err = anypb.New(proto.Message(table)); err != nil {
			return err
		}
	}
	return nil
}

const foreignExtension = "retry_host_predicates.of_another_build"

// qosOfOne is qos for b/4 alone.
var qosOfOne = strings.Replace(qos, "spec:\n", "spec:\n  selector: {prefix: b/4}\n", 1)

// A policy that real Envoys refuse reaches one of them. That one keeps what it
// had and says what it refuses and why; the rollout is halted, the other
// gateways are never asked, and no request is lost. The next good version of the
// policy is taken by all.
func TestAPolicyThatARealEnvoyRefusesIsHaltedThereAndHealedByTheNext(t *testing.T) {
	n := start(t, qosOfOne)
	concerned := []dmsc.NodeID{"sg-1", "sg-2"} // who reach sg-4 by sr-2
	relays := map[dmsc.NodeID]*adsRelay{}
	for _, id := range concerned {
		relays[id] = n.relayed(t, id)
		relays[id].foreign.Store(true)
	}
	n.settle(t)
	type row struct{ Ingress, Prefix, State, Rollout, Stopped string }
	rows := func(limit time.Duration, what string, want func(row) bool) {
		t.Helper()
		took := until(t, limit, what, func(ctx context.Context) error {
			var all []row
			if err := lab.Get(ctx, n.SCSC.Health, "/api/v1/policies", &all); err != nil {
				return err
			}
			count := 0
			for _, r := range all {
				if slices.Contains(concerned, dmsc.NodeID(r.Ingress)) && r.Prefix == "b/4" && want(r) {
					count++
				}
			}
			if count != len(concerned) {
				return fmt.Errorf("%+v", all)
			}
			return nil
		})
		t.Logf("measured: %s: %v", what, took)
	}
	rows(20*time.Second, "the SCSC judges b/4", func(r row) bool { return strings.EqualFold(r.State, "ok") })
	loads := map[dmsc.NodeID]*lab.Runner{}
	for _, id := range concerned {
		loads[id] = n.load(id, "b/4", "/", 50)
		defer loads[id].Stop()
	}
	calm := steady(t, loads["sg-1"], 25)

	n.Link("sr-2", "sg-4").SetDelay(80 * time.Millisecond)
	rows(20*time.Second, "the rollout is halted", func(r row) bool {
		return r.Rollout == "halted" && strings.Contains(r.Stopped, "halted until the policy is changed: refused by sg-")
	})
	var refuser, spared dmsc.NodeID
	for _, id := range concerned {
		if relays[id].sent.Load() > 0 {
			refuser = id
		} else {
			spared = id
		}
	}
	if refuser == "" || spared == "" || relays[refuser].refused.Load() != 1 || relays[spared].refused.Load() != 0 {
		t.Fatalf("sent to %v, refused by sg-1 %d times and by sg-2 %d times", refuser, relays["sg-1"].refused.Load(), relays["sg-2"].refused.Load())
	}
	t.Logf("measured: %s has refused, %s was not asked", refuser, spared)
	holds := func(id dmsc.NodeID) bool {
		t.Helper()
		dump, err := n.Node(id).Envoy.ConfigDump(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(dump, []byte(`"dmsc/policy/b/4"`))
	}
	for _, id := range concerned {
		if holds(id) {
			t.Errorf("the Envoy of %s runs the policy", id)
		}
		n.reachable(t, id, "b/4", 200)
	}
	// Who looks when all is over still sees it.
	out, err := exec.CommandContext(t.Context(), binary, "status", "--node", n.Node(refuser).Agent.Health).CombinedOutput()
	if err != nil { // it runs what it should: the policy has been withdrawn
		t.Errorf("dmsc status: %v\n%s", err, out)
	}
	for _, want := range []string{"policy_suspended", "fast/" + string(refuser) + "/b/4", foreignExtension} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("dmsc status does not say %q:\n%s", want, out)
		}
	}
	if log := n.log(t, string(refuser)); !regexp.MustCompile(`msg="envoy refused a resource.* resource=dmsc/ingress .* origins="?\[policy p-[0-9.]+/fast/` + string(refuser) + `/b/4[^,]*\]"? other_origins=0`).MatchString(log) {
		t.Errorf("the log does not say what was refused comes of the policy:\n%s", log)
	}

	for _, r := range relays {
		r.foreign.Store(false)
	}
	n.edit(t, "scsc/policies/policies.yaml", strings.Replace(qosOfOne, "40ms", "42ms", 1))
	rows(20*time.Second, "the next version is confirmed", func(r row) bool { return r.Rollout == "confirmed" })
	for _, id := range concerned {
		if !holds(id) || relays[id].sent.Load() == 0 {
			t.Errorf("the Envoy of %s does not run the good policy", id)
		}
		until(t, 5*time.Second, "requests leave the slow link", func(context.Context) error {
			got := loads[id].Since(time.Now().Add(-time.Second))
			if len(got) == 0 || strings.Contains(got[len(got)-1].Via, "<sr-2>,<sg-4>") {
				return fmt.Errorf("%d answers in a second", len(got))
			}
			return nil
		})
		nothingLost(t, "b/4 at "+string(id)+" while its policy is refused and mended", loads[id].Stop().Between(calm, time.Now()))
	}
}
