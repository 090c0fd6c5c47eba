package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/envoybin"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/spa"
)

// MaxNodes is the size of a network that one machine carries: an Envoy is
// about 65 MB.
const MaxNodes = 30

// Options says what to run.
type Options struct {
	Topology *topology.Topology
	Grants   []byte // nil: each pod may announce what the topology gives it
	Binary   string // the dmsc executable
	Envoy    envoybin.Binary
	Once     bool   // assert and end
	Keep     string // folder for files and logs; "" = a temporary one
	JSON     bool
	Out      io.Writer
}

// policies make a link that is 80 ms slow a reason to go elsewhere within
// three seconds, and its healing a reason to come back, on a path that takes
// some time by itself.
func policies(path time.Duration) []byte {
	return fmt.Appendf(nil, `apiVersion: dmsc.io/v1alpha1
kind: QoSPolicy
metadata: {name: fast}
spec:
  thresholds:
    delay: {enter: %s, clear: %s}
  trigger: {samples: 3of5}
  recovery: {holdDown: 2s}
`, path+40*time.Millisecond, path+20*time.Millisecond)
}

// authority decides as the SPA will.
func (o Options) authority() (*spa.Authority, error) {
	text := o.Grants
	if text == nil {
		text = o.Topology.Grants()
	}
	grants, err := spa.ParseGrants("grants.yaml", text)
	if err != nil {
		return nil, err
	}
	return spa.NewAuthority(grants), nil
}

// Run tells the story. Without Once it then stays until ctx ends. The error
// says which steps did not hold.
func Run(ctx context.Context, o Options) error {
	authority, err := o.authority()
	if err != nil {
		return err
	}
	allowed := lab.Allowed(o.Topology, authority)
	p, found := choose(allowed)
	dir := o.Keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "dmsc-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	r := &reporter{w: o.Out, json: o.JSON, started: time.Now()}
	net, err := lab.Start(ctx, lab.Options{
		Topology: o.Topology, Grants: o.Grants, Policies: policies(delay(o.Topology, p.path)), Dir: dir, Binary: o.Binary, Envoy: o.Envoy,
	})
	if err != nil && ctx.Err() != nil && !o.Once {
		return nil // Ctrl-C is how it ends, at any time
	}
	if err != nil {
		return fmt.Errorf("start the network: %w", err)
	}
	s := &story{plan: p, authority: authority, allowed: allowed, net: net, report: r, opts: o, rate: rate}
	if len(o.Topology.Nodes) > largeNetwork {
		s.rate = largeRate
	}
	nodes, err := listNodes(net, dir)
	if err != nil {
		return errors.Join(err, net.Close())
	}
	err = s.tell(ctx, found)
	if err == nil && !o.Once {
		stays := "the network stays up until Ctrl-C"
		if found {
			stays += fmt.Sprintf("; try:  curl -H 'dmsc-service-prefix: %s' http://%s/", p.prefix, net.Node(p.ingress).Ingress)
		}
		r.note("%s\nlook at it with  export DMSC_NODES=@%s  and  dmsc status, dmsc get adjacency|lsdb|rib|fib|spf-log, dmsc lsdb diff", stays, nodes)
		<-ctx.Done()
	}
	err = errors.Join(err, net.Close())
	if ctx.Err() != nil && !o.Once {
		return nil // Ctrl-C is how it ends
	}
	if failed := r.failed(); err == nil && len(failed) > 0 {
		return fmt.Errorf("%d of %d steps did not hold, the first: %s", len(failed), len(r.steps), failed[0].Text)
	}
	return err
}

// listNodes writes where the nodes are asked what they believe, as DMSC_NODES
// takes it.
func listNodes(net *lab.Network, dir string) (path string, err error) {
	var text strings.Builder
	for _, id := range net.IDs() {
		fmt.Fprintf(&text, "%s=http://%s\n", id, net.Node(id).Agent.Health)
	}
	path, err = filepath.Abs(filepath.Join(dir, "nodes"))
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(text.String()), 0o644)
}
