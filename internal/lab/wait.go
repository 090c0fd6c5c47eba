package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/spa"
)

// poll is how often a condition is looked at: coarse enough to cost nothing,
// fine enough to time a convergence by.
const poll = 10 * time.Millisecond

// Until waits until condition returns nil, and says what it said last when ctx
// ends first.
func Until(ctx context.Context, what string, condition func(context.Context) error) error {
	last := errors.New("not looked at yet")
	for {
		if ctx.Err() == nil {
			if last = condition(ctx); last == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, context.Cause(ctx), last)
		case <-time.After(poll):
		}
	}
}

// WaitConverged waits until the network is of use: every node but the absent
// ones is ready, their adjacencies are full, their databases are equal, and each
// routes every prefix of the topology that the grants allow.
func (n *Network) WaitConverged(ctx context.Context, absent ...dmsc.NodeID) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	return Until(ctx, "network does not converge", func(ctx context.Context) error {
		for _, id := range n.IDs() {
			for _, p := range []*Process{n.nodes[id].Agent.Process, n.nodes[id].Envoy.Process} {
				if !slices.Contains(absent, id) && !p.Running() {
					err := fmt.Errorf("%s has ended: %s", p.Name, p.LogTail(3))
					cancel(err) // no use in waiting
					return err
				}
			}
		}
		_, err := n.Converged(ctx, absent...)
		return err
	})
}

// Allowed is the topology with those services only that the authority allows
// their pods.
func Allowed(t *topology.Topology, a *spa.Authority) *topology.Topology {
	out := *t
	out.Pods = slices.Clone(t.Pods)
	for i, p := range out.Pods {
		out.Pods[i].Services = slices.DeleteFunc(slices.Clone(p.Services), func(s topology.Service) bool {
			return !a.Judge(spa.Claim{Gateway: p.Gateway, Pod: p.Name, Prefixes: []string{s.Prefix.String()}})[0].Granted
		})
	}
	return &out
}

// Converged reports the common digest of the databases, or why the network has
// not converged.
func (n *Network) Converged(ctx context.Context, absent ...dmsc.NodeID) (digest string, err error) {
	for _, id := range n.IDs() {
		if slices.Contains(absent, id) {
			continue
		}
		s, err := n.Status(ctx, id)
		if err != nil {
			return "", fmt.Errorf("%s does not answer: %w", id, err)
		}
		if err := n.settled(s, absent); err != nil {
			return "", fmt.Errorf("%s: %w", id, err)
		}
		if digest != "" && s.LSDB.Digest != digest {
			return "", fmt.Errorf("the database of %s differs: %s, not %s", id, s.LSDB.Digest, digest)
		}
		digest = s.LSDB.Digest
	}
	return digest, nil
}

// settled tells what a node still lacks.
func (n *Network) settled(s node.Status, absent []dmsc.NodeID) error {
	if !s.Ready {
		return fmt.Errorf("not ready: synced %t, envoy %t, acked %t", s.LSDB.Synced, s.Envoy.DataPlane, s.Envoy.Acked == s.Envoy.Published)
	}
	for _, a := range s.Adjacencies {
		if !a.IsObserver && a.State != "full" && !slices.Contains(absent, a.Neighbor) {
			return fmt.Errorf("link to %s is %s", a.Neighbor, a.State)
		}
	}
	names := map[string]bool{}
	for _, e := range s.FIB {
		names[e.Prefix] = true
	}
	for _, pod := range n.allowed.Pods {
		for _, v := range pod.Services {
			if !names[v.Prefix.String()] && !slices.Contains(absent, pod.Gateway) {
				return fmt.Errorf("%s is not routed yet", v.Prefix)
			}
		}
	}
	return nil
}
