package featuretests

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/client"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/linkstate/peering"
	"github.com/dmsc-mesh/dmsc/xds"
)

// mute is an SPA and an SCSC that take streams and never read nor say a word.
type mute struct {
	dmscv1.UnimplementedAuthenticationServiceServer
	dmscv1.UnimplementedQoSServiceServer
}

func (mute) Authenticate(s dmscv1.AuthenticationService_AuthenticateServer) error {
	if err := s.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	<-s.Context().Done()
	return nil
}

func (mute) Session(s dmscv1.QoSService_SessionServer) error {
	if err := s.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	<-s.Context().Done()
	return nil
}

// stalled surrounds a running agent with an Envoy, an observer and a pod that
// write what makes it answer and never read.
func (n *network) stalled(a *agent) {
	n.t.Helper()
	dial := func(address string) *grpc.ClientConn {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			n.t.Fatal(err)
		}
		n.t.Cleanup(func() { conn.Close() })
		return conn
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.t.Cleanup(cancel)

	ads, err1 := discoveryv3.NewAggregatedDiscoveryServiceClient(dial(a.cfg.Listen.XDS)).DeltaAggregatedResources(ctx)
	peer, err2 := dmscv1.NewLinkStateServiceClient(dial(a.cfg.Listen.Peering)).Peer(ctx)
	pod, err3 := dmscv1.NewAnnouncementServiceClient(dial(a.cfg.Listen.API)).Announce(ctx)
	if err := errors.Join(err1, err2, err3); err != nil {
		n.t.Fatal(err)
	}
	for t := xds.Clusters; t <= xds.Listeners; t++ {
		r := &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: string(a.id)}, TypeUrl: t.URL(), ResourceNamesSubscribe: []string{"*"}}
		if err := ads.Send(r); err != nil {
			n.t.Fatal(err)
		}
	}

	hello := &dmscv1.Hello{
		Domain: "test", Node: "watcher", Role: dmscv1.Role_ROLE_OBSERVER, Link: string(peering.ObserverLink),
		Algorithm: dmscv1.MetricAlgorithm_METRIC_ALGORITHM_IGP, Session: 1, DataPlane: true, Class: dmscv1.LinkClass_LINK_CLASS_METRO, Version: 1,
	}
	say := func() {
		if err := peer.Send(&dmscv1.PeerRequest{Message: &dmscv1.PeerMessage{Kind: &dmscv1.PeerMessage_Hello{Hello: hello}}}); err != nil {
			n.t.Fatal(err)
		}
	}
	say()
	r, err := peer.Recv() // the last word it takes in
	if err != nil {
		n.t.Fatal(err)
	}
	hello.Seen = r.GetMessage().GetHello().GetSession()
	say()
	n.until("the observer is taken for one", func() error {
		for _, adj := range a.Status().Adjacencies {
			if adj.Neighbor == "watcher" && (adj.State == "exchange" || adj.State == "synced") {
				return nil
			}
		}
		return fmt.Errorf("links are %+v", a.Status().Adjacencies)
	})

	// The pod writes until its gateway, which cannot answer it any more, lets it
	// write no more either.
	req := &dmscv1.AnnounceRequest{Pod: "pod-9"}
	for i := range 64 {
		req.Services = append(req.Services, &dmscv1.ServiceAnnouncement{Prefix: fmt.Sprintf("nine/%d", i), Address: "127.0.0.1", Port: 80, HealthPath: "-"})
	}
	wrote := make(chan struct{}, 1)
	var writing sync.WaitGroup
	writing.Go(func() {
		for pod.Send(req) == nil {
			select {
			case wrote <- struct{}{}:
			default:
			}
		}
	})
	n.t.Cleanup(func() { cancel(); writing.Wait() })
	for quiet := false; !quiet; {
		select {
		case <-wrote:
		case <-time.After(200 * time.Millisecond): // it has to stand still: that is what is waited for
			quiet = true
		}
	}
}

// stallable is a network whose sg-1 has a mute SPA and a mute SCSC.
func stallable(t *testing.T) *network {
	t.Helper()
	n := prepare(t, line1, line2)
	address := n.port()
	t.Cleanup(serve(t, address, func(g *grpc.Server) {
		dmscv1.RegisterAuthenticationServiceServer(g, mute{})
		dmscv1.RegisterQoSServiceServer(g, mute{})
	}))
	sg1 := n.nodes["sg-1"]
	sg1.cfg.SPA, sg1.cfg.SCSC = config.Centres{Addresses: []string{address}}, config.Centres{Addresses: []string{address}}
	n.start()
	n.stalled(sg1)
	return n
}

// doc.go of package node: settle "never blocks".
func TestWhoeverDoesNotReadDelaysNobodyElse(t *testing.T) {
	n := stallable(t)
	s := n.rawStream("sg-2")
	// Enough to fill the window of whoever does not read.
	big := &dmscv1.AnnounceRequest{Pod: "pod-1"}
	for i := range 64 {
		w := &dmscv1.ServiceAnnouncement{Prefix: fmt.Sprintf("b/%d", i), Address: "127.0.0.1", Port: 80, HealthPath: "-"}
		for j := range 10 {
			w.Attributes = append(w.Attributes, fmt.Sprintf("filler-%d=%s", j, strings.Repeat("x", 200)))
		}
		big.Services = append(big.Services, w)
	}
	if err := s.Send(big); err != nil {
		t.Fatal(err)
	}
	n.routed("sg-1", "b/63", "sr-1")
	for i := range 5 {
		prefix := fmt.Sprintf("a/%d", i)
		s.announce("pod-1", prefix)
		n.routed("sr-1", prefix, "sg-2")
		// Milliseconds, on a machine that has time; the readers never read.
		within(t, 5*time.Second, "sg-1 has what sr-1 has", func() error {
			return when(n.route("sg-1", prefix) == "sr-1", "it reaches %s by %q", prefix, n.route("sg-1", prefix))
		})
	}
	p := n.pod("pod-1", "sg-1", service("a/1"))
	n.until("another pod is answered", func() error {
		return when(p.status("a/1").State == client.Pending, "it heard %+v", p.status("a/1"))
	})
	if got := n.nodes["sr-1"].adjacency("sg-1"); got != "full" {
		t.Errorf("sr-1's link to sg-1 is %s", got)
	}
}

func TestAnAgentEndsWithinASecondWhoeverDoesNotRead(t *testing.T) {
	n := stallable(t)
	if d := n.nodes["sg-1"].stop(); d > time.Second {
		t.Errorf("Run ended after %v", d)
	}
}
