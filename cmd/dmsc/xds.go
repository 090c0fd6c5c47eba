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
	var control controlFlags
	cmd := &cobra.Command{
		Use: "history", Args: cobra.NoArgs,
		Short: "The last configurations that a node made for its Envoy",
		Long: "The last configurations that a node made for its Envoy, newest first: what each changed against the one before it, and\n" +
			"which is wanted (the newest), served, acknowledged and pinned. Changes of health alone make no entry; a configuration that\n" +
			"comes back, as with a link that flaps, is not listed again: AGE is since it came last, and TIMES how often. There are 20\n" +
			"entries, fewer if older ones take more than 64 MiB for themselves. The history is that of this life of the agent, and what\n" +
			"it is pinned to. With --state-dir or --config an agent of this machine is asked on its socket, as rollback does.\n\n" + nodeHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if control.stateDir != "" || control.config != "" {
				return localHistory(cmd, &control, &f)
			}
			return show(cmd, &f, func(ctx context.Context, a asked) (out node.HistoryStatus, err error) {
				return out, a.Read(ctx, "/api/v1/xds-history", nil, &out)
			}, printHistory)
		},
	}
	f.add(cmd)
	control.addPlace(cmd)
	return cmd
}

// localHistory asks one agent of this machine.
func localHistory(cmd *cobra.Command, control *controlFlags, f *nodeFlags) error {
	if len(f.nodes) > 1 {
		return exit(exitUsage, errors.New("--state-dir and --config mean one agent: give one --node at most"))
	}
	control.node, control.timeout = strings.Join(f.nodes, ""), f.timeout
	return control.run(func(ctx context.Context, out io.Writer, agent admin.Client) error {
		h, err := pinOrder(ctx, control, agent, http.MethodGet, nil)
		if err != nil {
			return err
		}
		return write(out, f.output, []node.HistoryStatus{h}, printHistory)
	})(cmd, nil)
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
			rows = append(rows, []string{n.Node, fmt.Sprint(-i), g.Version, age(g.AgeSec), fmt.Sprint(g.Times), strings.Join(is, " "), strings.Join(changes, ", ")})
		}
	}
	if err := columns(w, "NODE  TO  VERSION  AGE  TIMES  IS  CHANGED", rows); err != nil {
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
		for _, r := range h.Refusals {
			if r.Version == h.Given || h.Refused {
				return h, exit(exitNo, fmt.Errorf("it is in force, but %s", refusalText(r)))
			}
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
			"until dmsc xds resume, also over a restart of the agent: newer ones are recorded and wait, but for the health and the\n" +
			"addresses of the endpoints that it has, which follow at once. Meanwhile the node announces of its pods' prefixes only\n" +
			"those that this configuration delivers. The agent is asked on a socket in its state folder, as its user.\n" +
			"Exit code 1: Envoy has refused it, and goes on with what it had; 4: Envoy has not accepted it in time.",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(reason) > node.MaxReason {
			return exit(exitUsage, fmt.Errorf("--reason has %d bytes, at most %d are kept", len(reason), node.MaxReason))
		}
		return f.run(func(ctx context.Context, out io.Writer, agent admin.Client) error {
			before, err := pinOrder(ctx, &f, agent, http.MethodGet, nil)
			if err != nil {
				return err
			}
			was := before.Pinned
			if was != nil && !cmd.Flags().Changed("to") {
				return exit(exitUsage, fmt.Errorf("%s is %s; say with --to where to go from there: dmsc xds history lists what there is", before.Node, pinText(*was)))
			}
			version, err := generation(before, to)
			if err != nil {
				return exit(exitUsage, err)
			}
			if was != nil && was.Version == version {
				fmt.Fprintf(out, "%s: nothing changes, it is %s\n", before.Node, pinText(*was))
				return nil
			}
			h, err := pinOrder(ctx, &f, agent, http.MethodPut, url.Values{"to": {version}, "reason": {reason}})
			if err != nil {
				return err
			}
			warn(cmd, h)
			if h, err = accepted(ctx, &f, agent, h); err != nil {
				return err
			}
			text := "Envoy runs " + version
			if slices.ContainsFunc(before.Generations, func(g node.GenerationStatus) bool { return g.Version == version && g.Served }) {
				text = "Envoy goes on with " + version
			}
			if was != nil {
				text += ", and no longer " + was.Version
			}
			fmt.Fprintf(out, "%s: %s; newer configurations wait for dmsc xds resume\n", h.Node, text)
			if p := h.Pinned; p != nil && p.WithheldCount > 0 {
				fmt.Fprintf(out, "%s: %s\n", h.Node, withheldText(*p))
			}
			return nil
		})(cmd, args)
	}
	addPinned(cmd, &f)
	cmd.Flags().StringVar(&to, "to", "-1", "version, or the beginning of one, or how many configurations to go back from the newest")
	cmd.Flags().StringVar(&reason, "reason", "", fmt.Sprintf("why, for whoever reads dmsc status; at most %d bytes", node.MaxReason))
	return cmd
}

// warn prints what is amiss with an order that was carried out.
func warn(cmd *cobra.Command, h node.HistoryStatus) {
	if h.Warning != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", h.Warning)
	}
}

func resumeCommand() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use: "resume --state-dir DIR", Args: cobra.NoArgs,
		Short: "End a rollback: give the Envoy of a node the newest configuration again",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.run(func(ctx context.Context, out io.Writer, agent admin.Client) error {
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
			warn(cmd, h)
			if h, err = accepted(ctx, &f, agent, h); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s: Envoy runs the newest configuration again\n", h.Node)
			return nil
		})(cmd, args)
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
