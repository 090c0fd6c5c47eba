package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc/internal/node"
)

func lsdbCommand() *cobra.Command {
	lsdb := &cobra.Command{
		Use:   "lsdb diff",
		Short: "Compare the link-state databases of running nodes",
		Args:  oneOf,
		RunE: func(*cobra.Command, []string) error {
			return exit(exitUsage, errors.New("say what to do with the databases: diff"))
		},
	}
	lsdb.AddCommand(lsdbDiffCommand())
	return lsdb
}

// lsdbDiff is the answer of dmsc lsdb diff.
type lsdbDiff struct {
	Equal       bool         `json:"equal"`
	Nodes       []string     `json:"nodes"`
	Records     int          `json:"records"`     // in all of them together
	Differences []difference `json:"differences"` // sorted by record and node
	// Moving records differed at first, or were still changing in the end: they
	// are on their way and no reason for concern.
	Moving int `json:"moving"`
}

// difference is a record that one node does not hold as the others do.
type difference struct {
	Record string   `json:"record"`
	Node   string   `json:"node"`
	Holds  string   `json:"holds"`   // its order, "" for none
	Kind   string   `json:"kind"`    // missing, older or other_body
	Newest string   `json:"newest"`  // the order it lacks
	HeldBy []string `json:"held_by"` // who has that
	Lacks  []string `json:"lacks"`   // what the newest says and this node does not know, in words
}

func lsdbDiffCommand() *cobra.Command {
	var f nodeFlags
	var settle time.Duration
	cmd := &cobra.Command{
		Use: "diff", Args: cobra.NoArgs,
		Short: "Say where the databases of nodes differ: exit code 0 they are equal, 1 they differ",
		Long: "Compare the link-state databases of two or more nodes, record by record. A record that is on its way from one to the\n" +
			"other is none that differs: what does is asked for again until --settle is over, and told if a node has held the\nsame older version all the time.\n\n" + nodeHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			targets, err := f.targets()
			switch {
			case err != nil:
				return err
			case len(targets) < 2:
				return exit(exitUsage, fmt.Errorf("one node has nothing to differ from; give --node twice, or list the nodes in %s", nodesEnv))
			}
			d := comparison{f: f, warn: cmd.ErrOrStderr()}
			absent, err := d.present(cmd.Context())
			if err != nil {
				return err
			}
			report, err := d.compare(cmd.Context(), settle)
			if err != nil {
				return err
			}
			if err := write(cmd.OutOrStdout(), f.output, report, printLSDBDiff); err != nil {
				return err
			}
			if absent == nil && !report.Equal {
				return exit(exitNo, fmt.Errorf("%d records differ", countRecords(report.Differences)))
			}
			return absent
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&settle, "settle", time.Second, "how long to ask again for what differs")
	return cmd
}

// holding is what one node holds, by record.
type holding struct {
	node    string
	records map[string]node.Record
}

func (h holding) has(key string) *node.Record {
	if r, ok := h.records[key]; ok {
		return &r
	}
	return nil
}

// comparison asks the nodes, at first for everything.
type comparison struct {
	f      nodeFlags
	warn   io.Writer
	abouts []node.Summary
}

// present finds out who answers; these are compared if there are two or more.
// absent is the error of the others.
func (c *comparison) present(ctx context.Context) (absent, err error) {
	answers, absent := askNodes(ctx, &c.f, c.warn, func(_ context.Context, a asked) (asked, error) { return a, nil })
	if len(answers) < 2 {
		return absent, absent
	}
	c.warn = io.Discard // it has been said
	c.f.nodes = nil
	at := map[string]string{}
	for _, a := range answers {
		life := fmt.Sprint(a.about.Node, a.about.Incarnation)
		if at[life] != "" {
			return nil, exit(exitUsage, fmt.Errorf("%s and %s are the same node, %s", at[life], a.address, a.about.Node))
		}
		at[life] = a.address
		c.abouts = append(c.abouts, a.about)
		c.f.nodes = append(c.f.nodes, a.name+"="+a.address)
	}
	return absent, nil
}

// manyKeys is when it is cheaper to ask for the whole database again. So many of
// the longest keys are no more than an agent takes in one question.
const manyKeys = 512

// read asks for records, all of them for no keys.
func (c comparison) read(ctx context.Context, keys []string, content bool) ([]holding, error) {
	q := url.Values{"content": {strconv.FormatBool(content)}}
	if len(keys) <= manyKeys {
		q["key"] = keys
	}
	return askNodes(ctx, &c.f, c.warn, func(ctx context.Context, a asked) (holding, error) {
		h := holding{node: a.name, records: map[string]node.Record{}}
		var records []node.Record
		err := a.Read(ctx, "/api/v1/lsdb", q, &records)
		for _, r := range records {
			h.records[r.Key] = r
		}
		return h, err
	})
}

// again is the interval of the questions for what differs.
const again = 100 * time.Millisecond

func (c comparison) compare(ctx context.Context, settle time.Duration) (lsdbDiff, error) {
	report := lsdbDiff{Differences: []difference{}}
	report.Equal = true
	for _, a := range c.abouts {
		report.Nodes = append(report.Nodes, string(a.Node))
		report.Records = a.LSDB.Records
		report.Equal = report.Equal && a.LSDB.Digest == c.abouts[0].LSDB.Digest
	}
	if report.Equal {
		return report, nil
	}
	first, err := c.read(ctx, nil, false)
	if err != nil {
		return lsdbDiff{}, err
	}
	all := keysOf(first)
	report.Records = len(all)
	differing := slices.DeleteFunc(all, func(k string) bool { return agree(first, k) })
	suspects := len(differing)
	last := first
	for until := time.Now().Add(settle); len(differing) > 0 && time.Now().Before(until); {
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return lsdbDiff{}, ctx.Err()
		}
		if last, err = c.read(ctx, differing, false); err != nil {
			return lsdbDiff{}, err
		}
		differing = slices.DeleteFunc(differing, func(k string) bool { return agree(last, k) })
	}
	// Who has moved meanwhile is about to have the newest.
	var stuck []string
	for _, k := range differing {
		newest := newestOf(last, k)
		for i, h := range last {
			if r := h.has(k); held(r) != held(newest) && held(r) == held(first[i].has(k)) {
				stuck = append(stuck, k)
				break
			}
		}
	}
	report.Moving = suspects - len(stuck)
	if len(stuck) > 0 {
		if last, err = c.read(ctx, stuck, true); err != nil {
			return lsdbDiff{}, err
		}
		for _, k := range stuck {
			report.Differences = append(report.Differences, tell(first, last, k)...)
		}
	}
	report.Equal = len(report.Differences) == 0
	return report, nil
}

func keysOf(nodes []holding) []string {
	set := map[string]bool{}
	for _, h := range nodes {
		for k := range h.records {
			set[k] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// held tells the versions of a record apart; "" is none.
func held(r *node.Record) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%s %t %s", r.Order, r.Tombstone, r.BodySHA256)
}

func agree(nodes []holding, key string) bool {
	for _, h := range nodes[1:] {
		if held(h.has(key)) != held(nodes[0].has(key)) {
			return false
		}
	}
	return true
}

// newestOf is the version that wins in the end.
func newestOf(nodes []holding, key string) (newest *node.Record) {
	for _, h := range nodes {
		if r := h.has(key); r != nil && (newest == nil || newer(*r, *newest) > 0) {
			newest = r
		}
	}
	return newest
}

// newer compares versions as package linkstate does.
func newer(a, b node.Record) int {
	number := func(order string, after bool) uint64 {
		incarnation, seq, _ := strings.Cut(order, ".")
		if after {
			incarnation = seq
		}
		n, _ := strconv.ParseUint(incarnation, 10, 64)
		return n
	}
	return cmp.Or(cmp.Compare(number(a.Order, false), number(b.Order, false)), cmp.Compare(number(a.Order, true), number(b.Order, true)),
		cmp.Compare(a.BodySHA256, b.BodySHA256))
}

// tell puts into words who does not hold the newest version of a record, of
// those that have not moved since the beginning.
func tell(first, last []holding, key string) (out []difference) {
	newest := newestOf(last, key)
	if newest == nil {
		return nil
	}
	var by []string
	for _, h := range last {
		if held(h.has(key)) == held(newest) {
			by = append(by, h.node)
		}
	}
	for i, h := range last {
		r := h.has(key)
		if held(r) == held(newest) || held(r) != held(first[i].has(key)) {
			continue
		}
		d := difference{Record: key, Node: h.node, Kind: "missing", Newest: newest.Order, HeldBy: by, Lacks: node.Difference(r, newest)}
		if r != nil {
			d.Holds, d.Kind = r.Order, "older"
			if r.Order == newest.Order {
				d.Kind = "other_body"
			}
		}
		if d.Lacks == nil {
			d.Lacks = []string{}
		}
		out = append(out, d)
	}
	return out
}

func countRecords(differences []difference) int {
	keys := map[string]bool{}
	for _, d := range differences {
		keys[d.Record] = true
	}
	return len(keys)
}

func printLSDBDiff(w io.Writer, d lsdbDiff) error {
	if d.Moving > 0 {
		fmt.Fprintf(w, "%d records were on their way\n", d.Moving)
	}
	if d.Equal {
		fmt.Fprintf(w, "equal: %s hold the same %d records\n", strings.Join(d.Nodes, ", "), d.Records)
		return nil
	}
	var rows [][]string
	for _, x := range d.Differences {
		lacks := ""
		switch {
		case len(x.Lacks) > 0:
			lacks = strings.Join(x.Lacks, ", ")
		case x.Kind == "older":
			lacks = "nothing but the refresh"
		}
		rows = append(rows, []string{x.Record, x.Node, strings.ReplaceAll(x.Kind, "_", " "), x.Holds, x.Newest, some(x.HeldBy, 4), lacks})
	}
	return columns(w, "RECORD  NODE  IS  HOLDS  NEWEST  AT  WHAT IT LACKS", rows)
}
