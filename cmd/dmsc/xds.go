package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

func xdsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "xds history|rollback|resume", Args: oneOf,
		Short: "Look at the configurations of an Envoy, and go back to one",
		RunE: func(*cobra.Command, []string) error {
			return exit(exitUsage, errors.New("say what: history, rollback or resume"))
		},
	}
	cmd.AddCommand(historyCommand(), rollbackCommand(), resumeCommand())
	return cmd
}

func historyCommand() *cobra.Command {
	var f nodeFlags
	cmd := &cobra.Command{
		Use: "history", Args: cobra.NoArgs,
		Short: "The last configurations that a node made for its Envoy",
		Long: "The last configurations that a node made for its Envoy, newest first: what each changed against the one before it, and\n" +
			"which is wanted (the newest), served, acknowledged and pinned. Changes of health alone make no entry. There are 10 entries,\n" +
			"fewer if older ones take more than 64 MiB for themselves. The history is that of this life of the agent.\n\n" + nodeHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, &f, func(ctx context.Context, a asked) (out node.HistoryStatus, err error) {
				return out, a.Read(ctx, "/api/v1/xds-history", nil, &out)
			}, printHistory)
		},
	}
	f.add(cmd)
	return cmd
}

func printHistory(w io.Writer, nodes []node.HistoryStatus) error {
	var rows [][]string
	for _, n := range nodes {
		for i, g := range n.Generations {
			var is, changes []string
			for _, s := range []struct {
				so   bool
				word string
			}{{g.Wanted, "wanted"}, {g.Served, "served"}, {g.Acked, "acked"}, {g.Pinned, "pinned"}} {
				if s.so {
					is = append(is, s.word)
				}
			}
			for _, c := range g.Changes {
				text := fmt.Sprintf("%s +%d ~%d -%d", c.Type, c.Added, c.Changed, c.Removed)
				if c.Type != "endpoints" {
					text += " (" + some(c.Names, 3) + ")"
				}
				changes = append(changes, text)
			}
			rows = append(rows, []string{n.Node, fmt.Sprint(-i), g.Version, age(g.AgeSec), strings.Join(is, " "), strings.Join(changes, ", ")})
		}
	}
	if err := columns(w, "NODE  TO  VERSION  AGE  IS  CHANGED", rows); err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Pinned != nil {
			if _, err := fmt.Fprintf(w, "\n%s: %s\n", n.Node, pinText(*n.Pinned)); err != nil {
				return err
			}
		}
	}
	return nil
}

// pinOrder sends one to the agent, or asks it with GET, and checks who it is.
func pinOrder(ctx context.Context, f *controlFlags, agent admin.Client, method string, q url.Values) (h node.HistoryStatus, err error) {
	if err := agent.Do(ctx, method, "/xds", q, &h); err != nil {
		return h, controlError(err)
	}
	if f.node != "" && h.Node != f.node {
		return h, exit(exitUsage, fmt.Errorf("%s is the agent of %s, not of %s", agent.Address, h.Node, f.node))
	}
	return h, nil
}

func addPinned(cmd *cobra.Command, f *controlFlags) {
	f.add(cmd, "the Envoy")
	cmd.Flags().StringVar(&f.node, "node", "", "name of the node, which its agent must have; --state-dir may then be the folder above")
}

// accepted waits until the Envoy of the agent has accepted what it is served.
func accepted(ctx context.Context, f *controlFlags, agent admin.Client, h node.HistoryStatus) (node.HistoryStatus, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if slices.ContainsFunc(h.Generations, func(g node.GenerationStatus) bool { return g.Served && g.Acked }) {
			return h, nil
		}
		var err error
		select {
		case <-tick.C:
			h, err = pinOrder(ctx, f, agent, http.MethodGet, nil)
		case <-ctx.Done():
			err = ctx.Err()
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return h, exit(exitTimeout, fmt.Errorf("it is in force, but the Envoy has not accepted it within %v; see dmsc status", f.timeout))
		} else if err != nil {
			return h, err
		}
	}
}

func rollbackCommand() *cobra.Command {
	var f controlFlags
	var to, reason string
	cmd := &cobra.Command{
		Use: "rollback --state-dir DIR", Args: cobra.NoArgs,
		Short: "Pin the Envoy of a node to an earlier configuration",
		Long: "Give the Envoy of a node of this machine an earlier configuration, and wait until it has accepted that. It is pinned to it\n" +
			"until dmsc xds resume: newer ones are recorded and wait, but for the health and the addresses of the endpoints that it has,\n" +
			"which follow at once. The pin ends with the agent: one that restarts gives its Envoy the newest configuration, and raises\n" +
			"the alarm pin_lost. The agent is asked on a socket in its state folder, as its user.\n" +
			"Exit code 4: Envoy has not accepted it in time.",
		RunE: f.run(func(ctx context.Context, out io.Writer, agent admin.Client) error {
			h, err := pinOrder(ctx, &f, agent, http.MethodGet, nil)
			if err != nil {
				return err
			}
			version, err := generation(h, to)
			if err != nil {
				return exit(exitUsage, err)
			}
			if h, err = pinOrder(ctx, &f, agent, http.MethodPut, url.Values{"to": {version}, "reason": {reason}}); err != nil {
				return err
			}
			if h, err = accepted(ctx, &f, agent, h); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s: Envoy runs %s; newer configurations wait for dmsc xds resume\n", h.Node, version)
			return nil
		}),
	}
	addPinned(cmd, &f)
	cmd.Flags().StringVar(&to, "to", "-1", "version, or the beginning of one, or how many configurations to go back from the newest")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever reads dmsc status")
	return cmd
}

func resumeCommand() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use: "resume --state-dir DIR", Args: cobra.NoArgs,
		Short: "End a rollback: give the Envoy of a node the newest configuration again",
		RunE: f.run(func(ctx context.Context, out io.Writer, agent admin.Client) error {
			h, err := pinOrder(ctx, &f, agent, http.MethodGet, nil) // it is the right one
			if err != nil {
				return err
			}
			if h.Pinned == nil {
				fmt.Fprintf(out, "%s: nothing is pinned\n", h.Node)
				return nil
			}
			if h, err = pinOrder(ctx, &f, agent, http.MethodDelete, nil); err != nil {
				return err
			}
			if h, err = accepted(ctx, &f, agent, h); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s: Envoy runs the newest configuration again\n", h.Node)
			return nil
		}),
	}
	addPinned(cmd, &f)
	return cmd
}

// generation is the version that is meant by one, by the beginning of one, or
// by how many to go back.
func generation(h node.HistoryStatus, to string) (string, error) {
	if back, err := strconv.Atoi(to); err == nil && (back <= 0 || len(to) < 4) {
		if back > 0 { // not the version that happens to begin so
			return "", fmt.Errorf("--to %s is not in the history of %s: to go back by %s is --to -%s, and a version of digits alone is given with four or more", to, h.Node, to, to)
		}
		if -back >= len(h.Generations) {
			return "", fmt.Errorf("%s has %d configurations in its history: --to %s is none of them", h.Node, len(h.Generations), to)
		}
		return h.Generations[-back].Version, nil
	}
	var found []string
	for _, g := range h.Generations {
		if to != "" && (strings.HasPrefix(g.Version, to) || strings.HasPrefix(g.Latest, to)) && !slices.Contains(found, g.Version) {
			found = append(found, g.Version)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("no version in the history of %s begins with %q; dmsc xds history lists them", h.Node, to)
	}
	return "", fmt.Errorf("several versions in the history of %s begin with %q: %s", h.Node, to, strings.Join(found, ", "))
}
