package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

type lsdb struct {
	Node    dmsc.NodeID     `json:"node"`
	LSDB    node.LSDBStatus `json:"lsdb"`
	Records []node.Record   `json:"records"` // all, or those that were asked for
}

func getLSDBCommand() *cobra.Command {
	var f nodeFlags
	var origin string
	var limit uint
	var detail bool
	cmd := &cobra.Command{
		Use: "lsdb", Args: cobra.NoArgs,
		Short: "The records of each node's link-state database",
		Long: "The records of each node's link-state database: their order (incarnation.sequence, higher is newer), how long they\n" +
			"still live, and what they say.\n\n" + nodeHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			if origin != "" {
				q.Set("origin", origin)
			}
			if limit > 0 {
				q.Set("limit", fmt.Sprint(limit))
			}
			found := false
			err := show(cmd, &f, func(ctx context.Context, a asked) (lsdb, error) {
				out := lsdb{Node: a.about.Node, LSDB: a.about.LSDB}
				return out, a.Read(ctx, "/api/v1/lsdb", q, &out.Records)
			}, func(w io.Writer, nodes []lsdb) error {
				return printLSDB(w, nodes, detail)
			}, func(nodes []lsdb) {
				for _, n := range nodes {
					tellCut(cmd.ErrOrStderr(), n.Node, limit, len(n.Records), n.LSDB.Records, "records")
					found = found || len(n.Records) > 0
				}
			})
			if err == nil && origin != "" && !found {
				return exit(exitNo, fmt.Errorf("no record of %s is held; names are those of dmsc get lsdb", origin))
			}
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&origin, "origin", "", "records of this node only; exit code 1 if there is none")
	cmd.Flags().UintVar(&limit, "limit", 0, "at most so many records of each node (default: all)")
	cmd.Flags().BoolVar(&detail, "detail", false, "a row for each link and prefix")
	return cmd
}

func printLSDB(w io.Writer, nodes []lsdb, detail bool) error {
	var rows [][]string
	for _, n := range nodes {
		for _, r := range n.Records {
			says := details(r)
			if !detail {
				says = []string{summary(r)}
			}
			for _, s := range says {
				rows = append(rows, []string{string(n.Node), r.Key, r.Order, age(r.ExpiresSec), fmt.Sprint(r.Bytes), s})
			}
		}
	}
	return columns(w, "NODE  RECORD  ORDER  EXPIRES IN  BYTES  SAYS", rows)
}

// summary is what a record says, on one line.
func summary(r node.Record) string {
	switch c := r.Content; {
	case r.Tombstone:
		return "withdrawn"
	case c == nil:
		return "not understood by this version"
	case c.NodeContent != nil:
		var links []string
		for _, l := range c.Links {
			links = append(links, linkName(l)+":"+node.Cost(l.Metric))
		}
		return nodeName(c.NodeContent) + ", " + cmp.Or(some(links, 8), "no links")
	case c.PrefixContent != nil:
		var prefixes []string
		for _, p := range c.Prefixes {
			prefixes = append(prefixes, p.Prefix)
		}
		return some(prefixes, 8)
	default:
		return fmt.Sprintf("authorization of %d bytes", len(c.POA)/2)
	}
}

func nodeName(c *node.NodeContent) string {
	name := c.Role.String()
	if !c.Transit {
		name += ", last resort"
	}
	if c.Algorithm != 0 {
		name += fmt.Sprintf(", algorithm %s", c.Algorithm)
	}
	if len(c.AvoidTags) > 0 {
		name += ", avoids " + strings.Join(c.AvoidTags, " ")
	}
	return name
}

func linkName(l node.LinkContent) string {
	if l.Link == "0" {
		return string(l.Neighbor)
	}
	return string(l.Neighbor) + "#" + string(l.Link)
}

// details is what a record says, in as many lines as it takes.
func details(r node.Record) []string {
	c := r.Content
	switch {
	case c == nil, c.AuthContent != nil:
		return []string{summary(r)}
	case c.NodeContent != nil:
		out := []string{nodeName(c.NodeContent)}
		for _, l := range c.Links {
			s := fmt.Sprintf("link %s metric %s", linkName(l), node.Cost(l.Metric))
			if l.DelayMicros > 0 {
				s += fmt.Sprintf(" delay %s jitter %s loss %.3g", span(l.DelayMicros), span(l.JitterMicros), l.Loss)
			}
			if l.CapacityBPS > 0 {
				s += fmt.Sprintf(" capacity %s available %s", rate(l.CapacityBPS), rate(l.AvailableBPS))
			}
			if len(l.Tags) > 0 {
				s += " tags " + strings.Join(l.Tags, ",")
			}
			out = append(out, s)
		}
		return out
	}
	var out []string
	for _, p := range c.Prefixes {
		s := fmt.Sprintf("prefix %s metric %s preference %d weight %d %s", p.Prefix, node.Cost(p.Metric), p.Preference, p.Weight, p.Protocol)
		if p.ReplaySafe {
			s += " replay_safe"
		}
		if len(p.Attributes) > 0 {
			s += " " + strings.Join(p.Attributes, " ")
		}
		out = append(out, s)
	}
	return out
}

// rate prints bits per second; 0 is not known.
func rate(bps uint64) string {
	switch {
	case bps == 0:
		return "unknown"
	case bps >= 1e9:
		return fmt.Sprintf("%.3gGbps", float64(bps)/1e9)
	case bps >= 1e6:
		return fmt.Sprintf("%.3gMbps", float64(bps)/1e6)
	}
	return fmt.Sprintf("%.3gkbps", float64(bps)/1e3)
}
