package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// nodeState is one node in dmsc status: what it says of itself, or why it does
// not.
type nodeState struct {
	Node    string `json:"node"` // "" if only the address is known
	Address string `json:"address"`
	// State is the last that applies of: in sync, drained, not in sync, isolated,
	// starting, pinned, refused; or else no answer, unreachable.
	State string `json:"state"`
	// Reasons say why it is not in sync; none if it is.
	Reasons []string `json:"reasons"`
	// Notices are what is wrong besides: a link that is down, an instance that
	// fails its check, an SPA that is away.
	Notices []string `json:"notices"`
	// Status is /api/v1/node; null without an answer.
	Status *node.Summary `json:"status"`
}

// The states of a node.
const (
	stateInSync      = "in sync"
	stateDrained     = "drained"
	stateNotInSync   = "not in sync"
	stateIsolated    = "isolated"
	statePinned      = "pinned"
	stateRefused     = "refused"
	stateStarting    = "starting"
	stateNoAnswer    = "no answer"
	stateUnreachable = "unreachable"
)

func statusCommand() *cobra.Command {
	var f nodeFlags
	cmd := &cobra.Command{
		Use: "status", Args: cobra.NoArgs,
		Short: "Does every Envoy run what its node wants?",
		Long: "One line for each node: whether its Envoy runs all that the node has computed, and how far it has come if not. Below\n" +
			"that, what is wrong: resources that Envoy refused in its own words and what they come of (prefix, link, policy, HostAlias,\n" +
			"setting), configurations that are held back by dmsc xds rollback, policies that are refused, and the last alarms.\n" +
			"Exit code 0: all are in sync; 1: somebody is not; 3: a node cannot be reached; 4: it has not answered in time.\n\n" + nodeHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"table", "", "json", "yaml"}, f.output) {
				return exit(exitUsage, fmt.Errorf("output %q is not one of table, json, yaml", f.output))
			}
			answers, err := answersOf(cmd.Context(), &f, func(_ context.Context, a asked) (node.Summary, error) { return a.about, nil })
			if err != nil {
				return err
			}
			var nodes []nodeState
			code, out := 0, 0
			for _, a := range answers {
				st := stateOf(a)
				if nodes = append(nodes, st); len(st.Reasons) > 0 {
					out++
				}
				if st.State == stateUnreachable { // which another node may have answered for
					a.code = exitUnreachable
				}
				code = cmp.Or(code, a.code)
			}
			if err := write(cmd.OutOrStdout(), f.output, nodes, printStatus); err != nil {
				return err
			}
			if out > 0 {
				return exit(cmp.Or(code, exitNo), fmt.Errorf("%d of %d nodes are not in sync", out, len(nodes)))
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func stateOf(a answer[node.Summary]) nodeState {
	out := nodeState{Node: a.name, Address: a.address, State: stateInSync, Reasons: []string{}, Notices: []string{}}
	if a.err != nil {
		out.State, out.Reasons = stateUnreachable, []string{strings.TrimPrefix(a.err.Error(), cmp.Or(a.name, a.address)+": ")}
		if a.code == exitTimeout {
			out.State = stateNoAnswer
		}
		return out
	}
	s := a.value
	if own := string(s.Node); a.name != "" && a.name != own { // who is meant has not been asked
		out.State, out.Reasons = stateUnreachable, []string{fmt.Sprintf("at %s answers %s: correct the address", a.address, own)}
		return out
	}
	out.Node, out.Status = string(s.Node), &s
	because := func(state, format string, args ...any) {
		out.State, out.Reasons = state, append(out.Reasons, fmt.Sprintf(format, args...))
	}
	if s.Drain.Level != "" && s.Drain.Level != linkstate.DrainNone.String() {
		out.State = stateDrained // on purpose
		out.Notices = append(out.Notices, fmt.Sprintf("out of service (%s) until dmsc undrain", s.Drain.Level))
	}
	x := s.Envoy.XDS
	if !s.LSDB.Synced {
		because(stateNotInSync, "it has not heard from all its neighbours yet, for %s; records %d", age(s.UptimeSec), s.LSDB.Records)
	}
	switch {
	case x == nil || x.Phase == "unpublished":
		because(stateStarting, "nothing has been published to its Envoy yet")
	case !x.Connected && x.SinceSec == 0:
		because(stateNotInSync, "no Envoy has connected yet; start it, with what dmsc bootstrap prints")
	case !x.Connected:
		because(stateNotInSync, "no Envoy is connected, for %s; start it, with what dmsc bootstrap prints", age(x.SinceSec))
	case !x.Converged && len(s.Refusals) == 0:
		because(stateNotInSync, "its Envoy has not accepted all of %s, for %s: %s are on their way", brief8(s.Envoy.Published), age(s.Envoy.UnackedSec), x.Phase)
	}
	if x != nil && x.Connected && !s.Envoy.DataPlane {
		because(stateNotInSync, "its Envoy is connected and serves no request out of its FIB, for %s", age(s.Envoy.DataPlaneSec))
	}
	switch f := s.FIBStatus; {
	case f.Failed:
		because(stateNotInSync, "its newest configuration is invalid and was not published, see its log: a bug, report it")
	case f.Unpublished > 0 && x != nil && x.Phase != "unpublished":
		because(stateNotInSync, "routes of %d names are computed and not published yet: %s", f.Unpublished, brief(f.UnpublishedNames, 3))
	}
	out.links(s)
	if x != nil && x.Pinned != nil {
		because(statePinned, "%s", pinText(*x.Pinned))
	}
	if d := s.Documents; d != nil && d.Refused != "" {
		because(stateRefused, "documents %s: %s", d.Path, d.Refused)
	}
	if o := s.Outside; o != nil && o.Refused != "" {
		because(stateRefused, "%s", o.Refused)
	}
	for _, p := range s.PoliciesRefused {
		because(stateRefused, "policy %s is refused: %s", p.ID, p.Reason)
	}
	for _, r := range s.Refusals {
		because(stateRefused, "%s", refusalText(r))
	}
	for _, f := range s.InstanceFaults {
		out.Notices = append(out.Notices, fmt.Sprintf("%s of pod %s at %s is unhealthy and not announced, for %s: %s", f.Prefix, f.Pod, f.Address, age(f.SinceSec), f.Why))
	}
	if more := s.InstanceFaultCount - len(s.InstanceFaults); more > 0 {
		out.Notices = append(out.Notices, fmt.Sprintf("and %d instances more", more))
	}
	for _, away := range centres {
		if what := away(s); what != "" {
			out.Notices = append(out.Notices, what)
		}
	}
	if len(out.Reasons) == 0 && !s.Ready {
		because(stateNotInSync, "%s", strings.Join(s.NotReady, "; "))
	}
	return out
}

// links says which are down. Without any, what is in sync is the way to nobody. If
// its own Envoy does not forward, that has been said, and is why.
func (n *nodeState) links(s node.Summary) {
	if !s.Envoy.DataPlane && s.LSDB.Synced {
		return
	}
	var faults []string
	more := s.LinkCounts.Configured - s.LinkCounts.Full
	for _, l := range s.LinkFaults {
		faults = append(faults, fmt.Sprintf("link %s is %s, for %s: %s", linkstate.LinkKey{Remote: l.Neighbor, ID: l.Link}, l.State, age(l.SinceSec), l.Why))
		if l.State != linkstate.StateHeld.String() { // that one counts as full
			more--
		}
	}
	if more > 0 && len(faults) > 0 {
		faults = append(faults, fmt.Sprintf("and %d links more", more))
	}
	if s.LinkCounts.Full == 0 && s.LinkCounts.Configured > 0 && s.Drain.Level != linkstate.DrainRemoved.String() {
		if n.State != stateStarting {
			n.State = stateIsolated
		}
		n.Reasons = append(n.Reasons, fmt.Sprintf("none of its %d links is up", s.LinkCounts.Configured))
		n.Reasons = append(n.Reasons, faults...)
		return
	}
	n.Notices = append(n.Notices, faults...)
}

// centres say of some nodes that the SPA, or the SCSC, is away, and what ends when
// it stays so; "" if it is not.
var centres = []func(of ...node.Summary) string{
	func(of ...node.Summary) string {
		longest := -1.
		var waiting, announced int
		for _, s := range of {
			if s.SPAAway && s.Role == dmsc.RoleSG.String() {
				longest = max(longest, s.SPAAwaySec)
				waiting, announced = waiting+s.PrefixCounts.Pending, announced+s.PrefixCounts.Announced
			}
		}
		what := fmt.Sprintf("%d prefixes wait for one; the %d that are announced stay", waiting, announced)
		switch {
		case longest < 0:
			return ""
		case waiting+announced == 0:
			what = "what pods announce waits for one"
		}
		return fmt.Sprintf("no SPA answers, for %s: %s", age(longest), what)
	},
	func(of ...node.Summary) string {
		longest, end := -1., 0.
		var policies int
		for _, s := range of {
			if !s.SCSCAway {
				continue
			}
			longest = max(longest, s.SCSCAwaySec)
			if held := s.PolicyCounts.Live + s.PolicyCounts.Accepted + s.PolicyCounts.Suspended + s.PolicyCounts.Refused; held > 0 {
				if policies == 0 || s.PoliciesEndSec < end {
					end = s.PoliciesEndSec
				}
				policies += held
			}
		}
		what := fmt.Sprintf("%d policies end in %s, and their names go by plain SPF", policies, age(end))
		switch {
		case longest < 0:
			return ""
		case policies == 0:
			what = "no policies are held"
		}
		return fmt.Sprintf("no SCSC answers, for %s: %s", age(longest), what)
	},
}

// refusalText is a refusal in one line.
func refusalText(r node.RefusalStatus) string {
	text := fmt.Sprintf("Envoy refused %s %s", r.Type, r.Resource)
	if r.Times > 1 {
		text += fmt.Sprintf(" (%d times in %s)", r.Times, age(r.SinceSec))
	}
	if r.Running {
		text += " and keeps the one before"
	} else {
		text += ", which it has no older version of"
	}
	text += fmt.Sprintf(": %q", r.Message)
	var from []string
	for _, o := range r.Origins {
		from = append(from, o.Text)
	}
	if r.Others > 0 {
		from = append(from, fmt.Sprintf("%d others", r.Others))
	}
	if len(from) > 0 {
		text += "; it comes of " + strings.Join(from, ", ")
	}
	return text
}

// pinText is a pin in one line.
func pinText(p node.PinStatus) string {
	text := fmt.Sprintf("pinned to %s for %s", p.Version, age(p.SinceSec))
	if p.Reason != "" {
		text += fmt.Sprintf(" (%s)", p.Reason)
	}
	text += fmt.Sprintf("; %d newer configurations wait for dmsc xds resume", p.Waiting)
	if p.WithheldCount > 0 {
		text += "; " + withheldText(p)
	}
	return text
}

// withheldText says which prefixes of pods are not announced under a pin.
func withheldText(p node.PinStatus) string {
	text := "not announced, because that does not deliver them: " + strings.Join(p.Withheld, " ")
	if more := p.WithheldCount - len(p.Withheld); more > 0 {
		text += fmt.Sprintf(" +%d", more)
	}
	return text
}

// times says how often, if it was more than once; what follows is about the last.
func times(n int) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf("%d times, the last ", n)
}

// brief8 is the beginning of a version or digest.
func brief8(v string) string { return v[:min(len(v), 8)] }

func printStatus(w io.Writer, nodes []nodeState) error {
	var rows [][]string
	for _, n := range nodes {
		row := []string{cmp.Or(n.Node, n.Address), "", n.State, "", "", "", "", "", "", "", "", "", ""}
		if s := n.Status; s != nil {
			row[1] = s.Role
			if x := s.Envoy.XDS; x != nil {
				row[3] = "away"
				if x.Connected {
					row[3] = "connected"
				}
				row[4], row[5] = string(x.Phase), age(x.SinceSec)
			}
			row[6], row[7] = brief8(s.Envoy.Published), brief8(s.Envoy.Acked)
			row[8] = s.LSDB.Digest[:min(len(s.LSDB.Digest), 4)]
			row[9] = fmt.Sprintf("%d/%d", s.LinkCounts.Full, s.LinkCounts.Configured)
			row[10] = fmt.Sprint(s.FIBStatus.Names)
			c := s.PrefixCounts
			row[11] = fmt.Sprintf("%d/%d", c.Announced, c.Announced+c.Pending+c.Unhealthy+c.Denied)
			p := s.PolicyCounts
			row[12] = fmt.Sprintf("%d/%d", p.Live, p.Live+p.Accepted+p.Suspended+p.Refused)
		}
		rows = append(rows, row)
	}
	if err := columns(w, "NODE  ROLE  STATE  ENVOY  PHASE  SINCE  WANTED  ACKED  LSDB  LINKS  NAMES  PODS  POLICIES", rows); err != nil {
		return err
	}
	var err error
	gap := "\n"
	line := func(format string, args ...any) {
		_, e := fmt.Fprintf(w, gap+format, args...)
		err, gap = errors.Join(err, e), ""
	}
	said := map[string]bool{} // by nodes, of many at once
	for _, away := range centres {
		var names, notices []string
		var of []node.Summary
		for _, n := range nodes {
			if n.Status == nil {
				continue
			}
			if what := away(*n.Status); what != "" {
				names, notices, of = append(names, n.Node), append(notices, n.Node+what), append(of, *n.Status)
			}
		}
		if len(of) > 1 {
			line("%d nodes, %s: %s\n", len(of), brief(names, 3), away(of...))
			for _, what := range notices {
				said[what] = true
			}
		}
	}
	for _, n := range nodes {
		for _, why := range n.Reasons {
			line("%s: %s\n", cmp.Or(n.Node, n.Address), why)
		}
		for _, what := range n.Notices {
			if !said[n.Node+what] {
				line("%s: %s\n", n.Node, what)
			}
		}
		if n.Status == nil {
			continue
		}
		for _, a := range n.Status.Alarms {
			if slices.ContainsFunc(slices.Concat(n.Reasons, n.Notices), func(why string) bool { return strings.Contains(why, a.Text) }) {
				continue // it is said above
			}
			line("%s: alarm %s, %s%s ago: %s\n", n.Node, a.Code, times(a.Times), age(a.AgeSec), a.Text)
		}
	}
	return err
}
