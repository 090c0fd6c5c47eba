package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

type ribOf struct {
	Node    dmsc.NodeID        `json:"node"`
	Entries []node.EntryStatus `json:"entries"`
	names   int                // all of them, before --limit
}

type fibOf struct {
	Node     dmsc.NodeID           `json:"node"`
	FIB      node.FIBStatus        `json:"fib_status"`
	Envoy    node.EnvoyStatus      `json:"envoy"`
	Entries  []node.EntryStatus    `json:"entries"`
	Steering []node.SteeringStatus `json:"steering"`
}

type lookup struct {
	Node dmsc.NodeID `json:"node"`
	node.Lookup
}

func getRIBCommand() *cobra.Command {
	var f nodeFlags
	var limit uint
	cmd := &cobra.Command{
		Use: "rib [NAME]", Args: cobra.MaximumNArgs(1),
		Short: "What each node has computed, or what answers one name and why",
		Long: "What each node has computed: for each name the distance, the nodes that deliver it, the next hops and the alternate,\n" +
			"or why there is none. With a name: the entry that answers it, and who announces it. Exit code 1: a node has none.\n\n" + nodeHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return showLookup(cmd, &f, args[0], printRIBLookup, func(l lookup) *node.EntryStatus { return l.Computed })
			}
			return show(cmd, &f, func(ctx context.Context, a asked) (ribOf, error) {
				out := ribOf{Node: a.about.Node, names: a.about.FIBStatus.Computed}
				return out, a.Read(ctx, "/api/v1/rib", limited(limit), &out.Entries)
			}, printRIB, func(nodes []ribOf) {
				for _, n := range nodes {
					tellCut(cmd.ErrOrStderr(), n.Node, limit, len(n.Entries), n.names, "names")
				}
			})
		},
	}
	f.add(cmd)
	cmd.Flags().UintVar(&limit, "limit", 0, "at most so many names of each node (default: all)")
	return cmd
}

func getFIBCommand() *cobra.Command {
	var f nodeFlags
	var limit uint
	cmd := &cobra.Command{
		Use: "fib [NAME]", Args: cobra.MaximumNArgs(1),
		Short: "What each node has published for its Envoy, and what of it Envoy runs",
		Long: "What each node has published for its Envoy: names and their next-hop groups, the policies that steer them, and\n" +
			"whether Envoy has acknowledged it. If what is computed, published and acknowledged differs, it says so.\n" +
			"With a name: what answers it. Exit code 1: a node has nothing for it.\n\n" + nodeHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return showLookup(cmd, &f, args[0], printFIBLookup, func(l lookup) *node.EntryStatus { return l.Published })
			}
			return show(cmd, &f, func(ctx context.Context, a asked) (fibOf, error) {
				out := fibOf{Node: a.about.Node, FIB: a.about.FIBStatus, Envoy: a.about.Envoy}
				if err := a.Read(ctx, "/api/v1/fib", limited(limit), &out.Entries); err != nil {
					return out, err
				}
				return out, a.Read(ctx, "/api/v1/steering", nil, &out.Steering)
			}, printFIB, func(nodes []fibOf) {
				for _, n := range nodes {
					tellCut(cmd.ErrOrStderr(), n.Node, limit, len(n.Entries), n.FIB.Names, "names")
				}
			})
		},
	}
	f.add(cmd)
	cmd.Flags().UintVar(&limit, "limit", 0, "at most so many names of each node (default: all)")
	return cmd
}

// limited asks for the beginning of a list, for all of it if limit is 0.
func limited(limit uint) url.Values {
	if limit == 0 {
		return nil
	}
	return url.Values{"limit": {fmt.Sprint(limit)}}
}

// tellCut says that a list has more than --limit, by the count that the node
// gave a moment before.
func tellCut(w io.Writer, id dmsc.NodeID, limit uint, shown, all int, what string) {
	if limit > 0 && shown == int(limit) && shown < all {
		fmt.Fprintf(w, "%s: the first %d; it holds %d %s\n", id, shown, all, what)
	}
}

// showLookup asks for one name. That a node has no answer is a "no", if nothing
// worse has happened.
func showLookup(cmd *cobra.Command, f *nodeFlags, name string, table func(io.Writer, []lookup) error, answer func(lookup) *node.EntryStatus) error {
	if _, err := dmsc.ParsePrefix(name); err != nil {
		return exit(exitUsage, err)
	}
	var missing []string
	err := show(cmd, f, func(ctx context.Context, a asked) (lookup, error) {
		out := lookup{Node: a.about.Node}
		return out, a.Read(ctx, "/api/v1/lookup", url.Values{"name": {name}}, &out.Lookup)
	}, table, func(nodes []lookup) {
		for _, n := range nodes {
			if answer(n) == nil {
				missing = append(missing, string(n.Node))
			}
		}
	})
	if err == nil && len(missing) > 0 {
		return exit(exitNo, fmt.Errorf("%s is not answered at %s", name, strings.Join(missing, ", ")))
	}
	return err
}

// alternate is the alternate of an entry, or in brackets why there is none.
func alternate(e node.EntryStatus) string {
	switch {
	case len(e.Backup) > 0:
		return strings.Join(e.Backup, " ")
	case e.NoBackup != "":
		return "- (" + e.NoBackup + ")"
	}
	return ""
}

func nextHops(e node.EntryStatus) string {
	if e.Local {
		return "local"
	}
	return some(e.NextHops, 8)
}

func printRIB(w io.Writer, nodes []ribOf) error {
	var rows [][]string
	for _, n := range nodes {
		for _, e := range n.Entries {
			rows = append(rows, []string{string(n.Node), e.Prefix, e.Kind, node.Cost(e.Distance), some(ids(e.Egress), 8), nextHops(e), alternate(e)})
		}
	}
	return columns(w, "NODE  NAME  KIND  DISTANCE  EGRESS  NEXT HOPS  ALTERNATE", rows)
}

func ids(nodes []dmsc.NodeID) (out []string) {
	for _, n := range nodes {
		out = append(out, string(n))
	}
	return out
}

func printFIB(w io.Writer, nodes []fibOf) error {
	for _, n := range nodes {
		for _, line := range fibState(n) {
			fmt.Fprintf(w, "%s: %s\n", n.Node, line)
		}
	}
	fmt.Fprintln(w)
	var rows, steered [][]string
	for _, n := range nodes {
		for _, e := range n.Entries {
			rows = append(rows, []string{string(n.Node), e.Prefix, e.Kind, e.Group, some(ids(e.Egress), 8), nextHops(e), alternate(e), e.InEnvoy})
		}
		steered = append(steered, steering(n.Node, n.Steering)...)
	}
	if err := columns(w, "NODE  NAME  KIND  GROUP  EGRESS  NEXT HOPS  ALTERNATE  ENVOY", rows); err != nil {
		return err
	}
	return printSteering(w, steered)
}

func steering(at dmsc.NodeID, policies []node.SteeringStatus) (rows [][]string) {
	for _, s := range policies {
		for _, p := range s.Paths {
			acked := "not acked"
			if s.Acked {
				acked = "acked"
			}
			rows = append(rows, []string{string(at), s.Prefix, s.PolicyID, strings.Join(ids(p.Nodes), ">"), p.Instance, fmt.Sprintf("%d%%", p.WeightPercent), acked})
		}
	}
	return rows
}

func printSteering(w io.Writer, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return columns(w, "NODE  STEERED  POLICY  PATH  INSTANCE  SHARE  ENVOY", rows)
}

// fibState tells how far what was computed has come, and what is in its way.
func fibState(n fibOf) (out []string) {
	s, e := n.FIB, n.Envoy
	out = append(out, published(s, e)...)
	switch {
	case e.Published == "":
	case e.XDS == nil || !e.XDS.Connected && e.Acked == "":
		out = append(out, "no Envoy is connected; is one running with this node's bootstrap?")
	case e.Acked == e.Published:
		out = append(out, "Envoy has acknowledged all of it")
	case e.Acked == "":
		out = append(out, "Envoy has not acknowledged it yet")
	default:
		out = append(out, fmt.Sprintf("Envoy still runs %s: %s", e.Acked, differ(s.Unacked, s.UnackedNames)))
	}
	if x := e.XDS; x != nil && x.LastNack != nil && e.Acked != e.Published {
		out = append(out, fmt.Sprintf("Envoy refused %s of %s: %s", strings.Join(x.LastNack.Resources, ", "), x.LastNack.Version, x.LastNack.Message))
	}
	if s.GroupCap {
		out = append(out, "too many next-hop groups: the rarest share coarser ones, without an alternate")
	}
	return out
}

func published(s node.FIBStatus, e node.EnvoyStatus) []string {
	if e.Published == "" {
		return []string{fmt.Sprintf("nothing is published yet; %d names are computed", s.Computed)}
	}
	out := []string{fmt.Sprintf("published %s %s ago, names %d, groups %d", e.Published, age(s.PublishedAgeSec), s.Names, s.Groups)}
	switch {
	case s.Failed:
		out = append(out, "the newest configuration could NOT be published, see the agent's log; "+differ(s.Unpublished, s.UnpublishedNames)+" from what is computed")
	case s.Unpublished > 0:
		out = append(out, "what is computed is about to be published: "+differ(s.Unpublished, s.UnpublishedNames))
	}
	return out
}

func differ(count int, names []string) string {
	switch count {
	case 0:
		return "no name differs"
	case 1:
		return names[0] + " differs"
	}
	return fmt.Sprintf("%d names differ, such as %s", count, strings.Join(names[:min(len(names), 6)], ", "))
}

// lookupRow is what both tables begin with.
func lookupRow(l lookup, e *node.EntryStatus) []string {
	if e == nil {
		return []string{string(l.Node), l.Name, ""}
	}
	return []string{string(l.Node), l.Name, e.Prefix}
}

func printRIBLookup(w io.Writer, nodes []lookup) error {
	var rows, owners [][]string
	for _, l := range nodes {
		row := lookupRow(l, l.Computed)
		if e := l.Computed; e != nil {
			row = append(row, node.Cost(e.Distance), some(ids(e.Egress), 8), nextHops(*e), alternate(*e), l.Why)
		} else {
			row = append(row, "", "", "", "", l.Why)
		}
		rows = append(rows, row)
		for _, o := range l.Owners {
			distance := ""
			if o.Distance != nil {
				distance = node.Cost(*o.Distance)
			}
			owners = append(owners, []string{string(l.Node), o.Prefix, string(o.Node), fmt.Sprint(o.Preference), node.Cost(o.Metric), distance, yes(o.Chosen), o.Why})
		}
	}
	if err := columns(w, "NODE  NAME  ANSWERED BY  DISTANCE  EGRESS  NEXT HOPS  ALTERNATE  WHY", rows); err != nil || len(owners) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return columns(w, "NODE  ANNOUNCED  AT  PREFERENCE  METRIC  DISTANCE  CHOSEN  WHY", owners)
}

func printFIBLookup(w io.Writer, nodes []lookup) error {
	var rows, steered [][]string
	var notes []string
	for _, l := range nodes {
		row := lookupRow(l, l.Published)
		if e := l.Published; e != nil {
			row = append(row, e.Group, some(ids(e.Egress), 8), nextHops(*e), alternate(*e), e.InEnvoy, l.Why)
		} else {
			row = append(row, "", "", "", "", "", l.Why)
		}
		rows = append(rows, row)
		if !sameWay(l.Computed, l.Published) {
			notes = append(notes, fmt.Sprintf("%s: what is published for %s is not what is computed; see dmsc get rib %s\n", l.Node, l.Name, l.Name))
		}
		steered = append(steered, steering(l.Node, l.Steering)...)
	}
	if err := columns(w, "NODE  NAME  ANSWERED BY  GROUP  EGRESS  NEXT HOPS  ALTERNATE  ENVOY  WHY", rows); err != nil {
		return err
	}
	fmt.Fprint(w, strings.Join(notes, ""))
	return printSteering(w, steered)
}

func sameWay(a, b *node.EntryStatus) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Prefix == b.Prefix && a.Kind == b.Kind && a.Local == b.Local && a.Group == b.Group && slices.Equal(a.Egress, b.Egress)
}
