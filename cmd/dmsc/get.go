package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

func getCommand() *cobra.Command {
	get := &cobra.Command{
		Use:   "get adjacency|fib|lsdb|rib|spf-log",
		Short: "Show what running nodes believe",
		Long:  "Show what running nodes believe, one row for each thing, of each node that is asked.\n\n" + nodeHelp,
		Args:  oneOf,
		RunE: func(*cobra.Command, []string) error {
			return exit(exitUsage, errors.New("say what to get: adjacency, fib, lsdb, rib or spf-log"))
		},
	}
	get.AddCommand(getAdjacencyCommand(), getFIBCommand(), getLSDBCommand(), getRIBCommand(), getSPFLogCommand())
	return get
}

// oneOf refuses a word that is none of the sub-commands, which cobra takes for
// an argument.
func oneOf(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var known []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			known = append(known, c.Name())
		}
	}
	msg := fmt.Sprintf("%q is not known; say one of %s", args[0], strings.Join(known, ", "))
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		msg = fmt.Sprintf("%q is not known, %s is", args[0], near[0])
	}
	return errors.New(msg)
}

// show prints what was answered, also if some nodes did not. Whoever wants to
// judge the answers is shown them, too.
func show[T any](cmd *cobra.Command, f *nodeFlags, read func(context.Context, asked) (T, error), table func(io.Writer, []T) error, judges ...func([]T)) error {
	if !slices.Contains([]string{"table", "", "json", "yaml"}, f.output) {
		return exit(exitUsage, fmt.Errorf("output %q is not one of table, json, yaml", f.output))
	}
	answers, failed := askNodes(cmd.Context(), f, cmd.ErrOrStderr(), read)
	for _, judge := range judges {
		judge(answers)
	}
	if len(answers) > 0 {
		if err := write(cmd.OutOrStdout(), f.output, answers, table); err != nil {
			return err
		}
	}
	return failed
}

// columns prints rows under a head, aligned. A cell is never empty.
func columns(w io.Writer, head string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.ReplaceAll(head, "  ", "\t"))
	for _, r := range rows {
		for i, cell := range r {
			if cell == "" {
				r[i] = "-"
			}
		}
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	return tw.Flush()
}

// age prints seconds in the two units that tell most.
func age(sec float64) string {
	d := time.Duration(sec * float64(time.Second))
	switch {
	case d < 0:
		return "-" + age(-sec)
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// span prints a duration with three digits at most.
func span(us int64) string {
	d := time.Duration(us) * time.Microsecond
	switch {
	case d >= 100*time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.String()
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// some prints the beginning of a list of names, brief that of phrases.
func some(list []string, most int) string  { return beginning(list, most, " ") }
func brief(list []string, most int) string { return beginning(list, most, ", ") }

func beginning(list []string, most int, sep string) string {
	if len(list) > most+1 {
		list = append(slices.Clone(list[:most]), fmt.Sprintf("+%d", len(list)-most))
	}
	return strings.Join(list, sep)
}

type adjacencies struct {
	Node        dmsc.NodeID            `json:"node"`
	Adjacencies []node.AdjacencyStatus `json:"adjacencies"`
}

func getAdjacencyCommand() *cobra.Command {
	var f nodeFlags
	cmd := &cobra.Command{
		Use: "adjacency", Aliases: []string{"adjacencies", "adj"}, Args: cobra.NoArgs,
		Short: "The links of each node and how far they have come",
		Long: "The links of each node and how far they have come: state (full is advertised), whether the data path between the\n" +
			"Envoys is alive and its round trip, since when, records that wait to be acknowledged, and until when a flapping link\nis held back.\n\n" + nodeHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, &f, func(ctx context.Context, a asked) (adjacencies, error) {
				out := adjacencies{Node: a.about.Node}
				return out, a.Read(ctx, "/api/v1/adjacencies", nil, &out.Adjacencies)
			}, printAdjacencies)
		},
	}
	f.add(cmd)
	return cmd
}

func printAdjacencies(w io.Writer, nodes []adjacencies) error {
	var rows [][]string
	for _, n := range nodes {
		for _, a := range n.Adjacencies {
			link, class, metric := string(a.Link), a.Class, node.Cost(a.Metric)
			if a.IsObserver {
				link, class, metric = "observer", "", ""
			}
			rtt, damped := "", ""
			if a.RTTMicros > 0 {
				rtt = span(a.RTTMicros)
			}
			if a.DampedSec > 0 {
				damped = age(a.DampedSec)
			}
			alive := yes(a.Alive)
			if a.IsObserver {
				alive = ""
			}
			rows = append(rows, []string{string(n.Node), string(a.Neighbor), link, a.State, alive, rtt, class, metric, age(a.SinceSec), fmt.Sprint(a.Pending), yes(a.Flooding), damped})
		}
	}
	return columns(w, "NODE  NEIGHBOR  LINK  STATE  ALIVE  RTT  CLASS  METRIC  SINCE  PENDING  FLOODING  DAMPED FOR", rows)
}
