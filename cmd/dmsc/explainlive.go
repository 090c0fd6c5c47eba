package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/translator/envoysim"
)

// liveNetwork is of what the Envoys of nodes run now. Which node a host is, its
// neighbours know: they dial it there.
func liveNetwork(cmd *cobra.Command, f *nodeFlags) (*offline, error) {
	type running struct {
		asked
		text        []byte
		adjacencies []node.AdjacencyStatus
	}
	answers, absent := askNodes(cmd.Context(), f, cmd.ErrOrStderr(), func(ctx context.Context, a asked) (r running, err error) {
		r.asked = a
		if err = a.Read(ctx, "/api/v1/adjacencies", nil, &r.adjacencies); err == nil {
			r.text, err = configDump(ctx, a)
		}
		return r, err
	})
	if len(answers) == 0 {
		return nil, absent
	}
	d := newDumps("of the nodes asked")
	d.absent, d.neighbours = absent, make(map[string]dmsc.NodeID)
	for _, r := range answers {
		if err := d.add("the Envoy of "+r.name, r.text); err != nil {
			d.absent = errors.Join(d.absent, err) // as good as none
		}
		for _, a := range r.adjacencies {
			if a.Data != "" {
				d.neighbours[a.Data] = a.Neighbor
			}
		}
	}
	d.Network = envoysim.Join(d.envoys, d.neighbours)
	d.why = func(at dmsc.NodeID, name string) *reason {
		if _, err := dmsc.ParsePrefix(name); err != nil {
			return nil // of a host outside the mesh
		}
		for _, r := range answers {
			if r.about.Node != at {
				continue
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			var l node.Lookup
			err := r.Read(ctx, "/api/v1/lookup", url.Values{"name": {name}}, &l)
			if err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s does not say why it has %s: %v\n", at, name, err)
			}
			if l.Published != nil {
				return reasonOf(*l.Published, l.Steering)
			}
		}
		return nil
	}
	return d.offline, nil
}

func configDump(ctx context.Context, a asked) ([]byte, error) {
	page, err := a.Open(ctx, "/api/v1/envoy/config_dump", nil)
	if err != nil {
		return nil, err
	}
	defer page.Close()
	text, err := io.ReadAll(page)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("the config dump of its Envoy is longer than the agent passes on, or breaks off: %w", err)
	}
	return text, nil
}
