package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/envoybin"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/serve"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// neighbours are what stands for the Envoys of the next hops: each answers with
// its name.
type neighbours struct {
	ports    map[dmsc.NodeID]*lab.Port
	expected atomic.Pointer[arrival]

	group *errgroup.Group
	ctx   context.Context
	stop  context.CancelFunc
	err   error
}

func newNeighbours(ctx context.Context) *neighbours {
	n := &neighbours{ports: map[dmsc.NodeID]*lab.Port{}, group: &errgroup.Group{}}
	n.ctx, n.stop = context.WithCancel(ctx)
	return n
}

// address is the data address of a neighbour, which from then on answers there.
func (n *neighbours) address(id dmsc.NodeID) string {
	if p := n.ports[id]; p != nil {
		return p.Addr()
	}
	p, err := lab.HoldPort()
	if err != nil {
		n.err = errors.Join(n.err, err)
		return ""
	}
	n.ports[id] = p
	l, err := serve.Listen(p.Addr())
	if err != nil {
		n.err = errors.Join(n.err, err)
		return ""
	}
	n.group.Go(func() error {
		return answering(n.ctx, l, func(*http.Request) dmsc.NodeID {
			n.expected.Load().note(id)
			return id
		})
	})
	return p.Addr()
}

// arrival is the first request that comes to a neighbour from some moment on.
type arrival struct {
	of dmsc.NodeID
	at atomic.Pointer[time.Time] // nil until then
}

// expect waits for the first request from now on that a neighbour gets.
func (n *neighbours) expect(id dmsc.NodeID) *arrival {
	a := &arrival{of: id}
	n.expected.Store(a)
	return a
}

// note: a neighbour has got a request.
func (a *arrival) note(id dmsc.NodeID) {
	if a != nil && a.of == id {
		now := time.Now()
		a.at.CompareAndSwap(nil, &now)
	}
}

func (n *neighbours) close() error {
	n.stop()
	err := errors.Join(n.err, n.group.Wait())
	for _, p := range n.ports {
		err = errors.Join(err, p.Close())
	}
	return err
}

// plane is one gateway's data plane: a real Envoy, the xDS server it is
// connected to, and the translator before that.
type plane struct {
	*forwarding
	next       *neighbours
	kind       string
	envoy      *lab.Envoy
	rival      rival
	wire       wire
	translator translator.Translator
	alter      func(translator.Resources) error // what is published; nil leaves it as it is

	server *grpc.Server
	group  *lab.Group
	ports  []*lab.Port
	served errgroup.Group
}

// startPlane starts an Envoy that knows no name yet, beside an xDS server of
// some kind.
func startPlane(ctx context.Context, kind, dir string, envoy envoybin.Binary, prefixes int, next *neighbours) (_ *plane, err error) {
	p := &plane{next: next, kind: kind, group: lab.NewGroup()}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if p.ports, err = lab.HoldPorts(2); err != nil {
		return nil, err
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	p.forwarding, err = newForwarding(prefixes, translator.Addrs{
		Ingress: p.ports[0].Addr(), Fabric: p.ports[1].Addr(), Probe: "unix://" + at("probe.sock"), Admin: "unix://" + at("admin.sock"),
	}, next.address)
	if err = errors.Join(err, next.err); err != nil {
		return nil, err
	}
	if p.rival, err = newRival(ctx, kind); err != nil {
		return nil, err
	}
	l, err := serve.Listen("unix://" + at("xds.sock"))
	if err != nil {
		return nil, err
	}
	p.server = grpc.NewServer(append(serverOptions(kind), grpc.StreamInterceptor(p.wire.count))...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(p.server, p.rival)
	p.served.Go(func() error { return p.server.Serve(l) })
	empty := p.state
	empty.RIB = nil
	if err := p.publish(empty, nil); err != nil {
		return nil, err
	}
	boot, err := translator.Bootstrap(p.state.Node, "unix://"+at("admin.sock"), "unix://"+at("xds.sock"))
	if err != nil {
		return nil, err
	}
	text, err := translator.YAML(boot)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(at("envoy.yaml"), text, 0o644); err != nil {
		return nil, err
	}
	p.envoy, err = lab.StartEnvoy(ctx, p.group, lab.EnvoyConfig{
		Name: kind + " envoy", Binary: envoy.Path, Bootstrap: at("envoy.yaml"), Admin: at("admin.sock"), Log: at("envoy.log"),
	})
	return p, err
}

func (p *plane) close() error {
	err := p.group.Stop(5 * time.Second)
	if p.server != nil {
		p.server.Stop()
		err = errors.Join(err, p.served.Wait())
	}
	for _, port := range p.ports {
		err = errors.Join(err, port.Close())
	}
	return err
}

// planes are several, and the neighbours that they share.
type planes struct {
	next   *neighbours
	planes []*plane
}

func (a *planes) start(ctx context.Context, kind, dir string, envoy envoybin.Binary, prefixes int) (*plane, error) {
	p, err := startPlane(ctx, kind, dir, envoy, prefixes, a.next)
	if err == nil {
		a.planes = append(a.planes, p)
	}
	return p, err
}

func (a *planes) close() (err error) {
	for _, p := range a.planes {
		err = errors.Join(err, p.close())
	}
	return errors.Join(err, a.next.close())
}

// walk is when a change had come how far.
type walk struct {
	began, translated, published, sent, acked time.Time
}

// publish translates a state and publishes it. The walk may be nil.
func (p *plane) publish(s translator.State, w *walk) error {
	resources, err := p.translator.Translate(s)
	if err == nil && p.alter != nil {
		err = p.alter(resources)
	}
	if err != nil {
		return err
	}
	set := xds.SetOf(resources)
	if w != nil {
		w.translated = time.Now()
	}
	if err := p.rival.publish(string(p.state.Node), set); err != nil {
		return err
	}
	if w != nil {
		w.published = time.Now()
	}
	return nil
}

// change publishes a state and waits until Envoy has ACKed what of it is of a
// type.
func (p *plane) change(ctx context.Context, s translator.State, t xds.Type) (w walk, err error) {
	ctx, cancel := context.WithTimeout(ctx, planeLimit)
	defer cancel()
	acks := p.wire.watch(t.URL(), 1)
	w.began = time.Now()
	if err := p.publish(s, &w); err != nil {
		return w, err
	}
	if err := acks.wait(ctx); err != nil {
		return w, fmt.Errorf("envoy does not ACK %s: %w\n%s", t, err, p.envoy.LogTail(5))
	}
	w.sent, w.acked = time.Unix(0, acks.sent.Load()), acks.at[0]
	return w, nil
}

// planeLimit bounds what one change may take.
const planeLimit = 30 * time.Second

// allocated is what Envoy's allocator has given out, in bytes.
func (p *plane) allocated(ctx context.Context) (float64, error) {
	text, err := p.envoy.Get(ctx, "/memory")
	if err != nil {
		return 0, err
	}
	var m struct {
		Allocated string `json:"allocated"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return 0, fmt.Errorf("envoy admin: read memory: %w", err)
	}
	return strconv.ParseFloat(m.Allocated, 64)
}
