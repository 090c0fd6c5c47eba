package sim

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteHead prints what is about to be simulated.
func WriteHead(w io.Writer, o Options) {
	fmt.Fprintf(w, "%s: %d nodes, %d links; seed %d, %d events, loss %g\n",
		o.Topology.Name, len(o.Topology.Nodes), len(o.Topology.Links), o.Seed, o.Events, o.Loss)
}

// WritePhase prints a line for a person who waits.
func WritePhase(w io.Writer, p Phase) {
	var events []string
	for _, kind := range Kinds {
		if n := p.Events[kind]; n == 1 {
			events = append(events, kind)
		} else if n > 1 {
			events = append(events, fmt.Sprintf("%d %s", n, kind))
		}
	}
	what := p.Name
	if len(events) > 0 {
		what += " (" + strings.Join(events, ", ") + ")"
	}
	parts := ""
	if p.Parts != 1 {
		parts = fmt.Sprintf(" in %d parts", p.Parts)
	}
	fmt.Fprintf(w, "%9s  %s; at rest%s after %s, %d messages\n", virtual(p.EndMS), what, parts, virtual(p.RestMS), p.Messages)
}

func virtual(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// WriteSummary prints a Report as a table, and how to see a failure again:
// replay is the command line that was run.
func WriteSummary(w io.Writer, r *Report, replay string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(tw)
	var events []string
	for _, kind := range Kinds {
		if n := r.ByKind[kind]; n > 0 {
			events = append(events, fmt.Sprintf("%s %d", kind, n))
		}
	}
	row("events", "%s", strings.Join(events, ", "))
	row("virtual time", "%s", virtual(r.DurationMS))
	t := r.Traffic
	row("messages", "%d, %d of them updates with %d records; lost %d, duplicated %d, reordered %d", t.Messages, t.Updates, t.Records, t.Lost, t.Duplicated, t.Reordered)
	row("computations", "full SPF %d, incremental SPF %d, prefixes %d, none %d", r.Runs["full"], r.Runs["incremental"], r.Runs["prefixes"], r.Runs["none"])
	q := r.Requests
	row("requests", "%d: delivered %d, retried %d, lost %d though there was a way, lost %d without one", q.Sent, q.Delivered, q.Retried, q.LostWithPath, q.LostWithoutPath)
	row("repaired on the way", "%d", q.Repaired)
	row("pinned paths", "%d: kept %d, demoted %d, suspended by the ingress %d", q.Pinned, q.PathsKept, q.Demoted, q.Suspended)
	row("failed attempts", "loop %d, no-route %d, no-healthy %d, starting %d", q.Loops, q.NoRoute, q.NoHealthy, q.Starting)
	c := r.Checks
	row("checked", "%d rests: %d RIBs with %d entries and %d alternates against the reference, %d walks", c.Rests, c.RIBs, c.Entries, c.Alternates, c.Walks)
	if err := tw.Flush(); err != nil {
		return err
	}
	if r.Failure == nil {
		_, err := fmt.Fprintln(w, "every invariant held")
		return err
	}
	f := r.Failure
	_, err := fmt.Fprintf(w, "\nBROKEN at %s: %s\n%s\n\nreplay: %s\n\nshortest scene found in %d replays; as a file of linkstate/testdata/scenes or internal/sim/testdata/scenes:\n\n# %s\n%s\n----\n",
		virtual(f.AtMS), f.Rule, f.Text, replay, f.Replays, f.Rule, strings.Join(f.Scene, "\n"))
	return err
}
