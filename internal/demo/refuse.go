package demo

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/spa"
)

// claim is a name that a pod may not announce.
type claim struct {
	gateway     dmsc.NodeID
	pod, prefix string
}

// refusals are the services of the topology that the grants refuse or, when
// there is none, one name that a pod makes up. There may be neither: grants can
// allow a pod everything.
func refusals(t *topology.Topology, a *spa.Authority) (out []claim) {
	refused := func(c claim) bool {
		return !a.Judge(spa.Claim{Gateway: c.gateway, Pod: c.pod, Prefixes: []string{c.prefix}})[0].Granted
	}
	var invented []claim
	for _, p := range t.Pods {
		for _, s := range p.Services {
			if c := (claim{p.Gateway, p.Name, s.Prefix.String()}); refused(c) {
				out = append(out, c)
			}
			// The second is for names that are as long as names can be.
			for _, name := range []string{s.Prefix.String() + "-stolen", "stolen"} {
				if _, err := dmsc.ParsePrefix(name); err == nil {
					invented = append(invented, claim{p.Gateway, p.Name, name})
				}
			}
		}
	}
	if i := slices.IndexFunc(invented, refused); len(out) == 0 && i >= 0 {
		out = invented[i : i+1]
	}
	return out
}

// refuses has pods announce what they were not granted (draft §4.2(2)).
func (s *story) refuses(ctx context.Context) error {
	claims := refusals(s.opts.Topology, s.authority)
	if len(claims) == 0 && len(s.opts.Topology.Pods) > 0 {
		s.report.note("the grants refuse nobody anything: that step is left out")
	}
	for _, c := range claims {
		if err := s.isRefused(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) isRefused(ctx context.Context, c claim) error {
	ask, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var out bytes.Buffer
	p, err := s.net.Run(&out, "announce", c.prefix, "--pod", c.pod, "--port", "9", "--gateway", s.net.Node(c.gateway).Agent.Listen)
	if err != nil {
		return err
	}
	waited := p.Wait(ask)
	line := ""
	for l := range strings.Lines(out.String()) {
		if strings.Contains(l, " denied ") {
			line = strings.TrimSpace(l)
		}
	}
	nowhere, err := s.inNoDatabase(ctx, c)
	if err != nil {
		return err
	}
	s.report.say("refused", line != "" && waited != nil && nowhere, map[string]any{"pod": c.pod, "prefix": c.prefix, "answer": line, "in_no_lsdb": nowhere},
		"%s was refused %s and is in no node's database\n“%s”", c.pod, c.prefix, line)
	return nil
}

// inNoDatabase reports whether no node has a record in which the gateway
// announces the prefix. Another pod of the gateway may have it announced.
func (s *story) inNoDatabase(ctx context.Context, c claim) (bool, error) {
	for _, p := range s.allowed.Pods {
		if p.Gateway == c.gateway && slices.ContainsFunc(p.Services, func(v topology.Service) bool { return v.Prefix.String() == c.prefix }) {
			return true, nil
		}
	}
	for _, id := range s.net.IDs() {
		var rows []struct {
			Origin  dmsc.NodeID `json:"origin"`
			Content struct {
				Prefixes []struct {
					Prefix string `json:"prefix"`
				} `json:"prefixes"`
			} `json:"content"`
		}
		if err := lab.Get(ctx, s.net.Node(id).Agent.Health, "/api/v1/lsdb", &rows); err != nil {
			return false, err
		}
		if len(rows) == 0 {
			return false, nil
		}
		for _, r := range rows {
			for _, p := range r.Content.Prefixes {
				if r.Origin == c.gateway && p.Prefix == c.prefix {
					return false, nil
				}
			}
		}
	}
	return true, nil
}
