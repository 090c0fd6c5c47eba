package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

func drainCommand() *cobra.Command {
	var f controlFlags
	var remove bool
	var grace, clients time.Duration
	cmd := &cobra.Command{
		Use: "drain --state-dir DIR", Args: cobra.NoArgs,
		Short: "Take the node of this machine out of service, without losing a request",
		Long: "Make the node a last resort for transit and for its prefixes, and wait until every neighbour has acknowledged it: whatever\n" +
			"has another way or another owner goes there, who has none goes on using it. With --remove its links are withdrawn after\n" +
			"that, too, and nothing leads there any more; before that an SG lets no more clients in, finishes what is under way and ends\n" +
			"their connections, so pods need another gateway. The agent is asked on a socket in its state folder, as its user. The drain\n" +
			"stays in force over restarts of the agent until dmsc undrain. Exit code 4: the neighbours have not acknowledged in time.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			agent, err := f.agent()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			out := cmd.OutOrStdout()
			st, err := setDrain(ctx, agent, http.MethodGet, linkstate.DrainNone)
			if err != nil {
				return err
			}
			// The links of a removed node do not come back for being asked again.
			if st.Level != linkstate.DrainRemoved.String() {
				if remove {
					warnOfCutOff(ctx, cmd.ErrOrStderr(), agent)
				}
				if err := drainTo(ctx, out, agent, linkstate.DrainCost, f.timeout); err != nil {
					return err
				}
				fmt.Fprintln(out, "drained: a last resort for transit and for its prefixes, acknowledged by every neighbour")
				if !remove {
					return nil
				}
				if err := closeToClients(cmd.Context(), out, agent, clients); err != nil {
					return err
				}
				fmt.Fprintf(out, "waiting %v for requests on their way\n", grace)
				select {
				case <-time.After(grace):
				case <-cmd.Context().Done():
					return exit(exitNo, errors.New("interrupted; the cost stays raised until dmsc undrain"))
				}
			}
			ctx, cancel = context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			if err := drainTo(ctx, out, agent, linkstate.DrainRemoved, f.timeout); err != nil {
				return err
			}
			fmt.Fprintln(out, "removed: no link leads here any more; the node may be stopped")
			return nil
		},
	}
	f.add(cmd, "the neighbours")
	cmd.Flags().BoolVar(&remove, "remove", false, "withdraw the links, too, once the cost is acknowledged")
	cmd.Flags().DurationVar(&grace, "grace", 2*time.Second, "between the two, for requests of others on their way")
	cmd.Flags().DurationVar(&clients, "clients", 30*time.Second, "before that, how long the clients of this gateway may take to finish and go")
	return cmd
}

func undrainCommand() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use: "undrain --state-dir DIR", Args: cobra.NoArgs,
		Short: "Take the node of this machine back into service",
		RunE: f.run(func(ctx context.Context, out io.Writer, agent admin.Client) error {
			if _, err := setDrain(ctx, agent, http.MethodPut, linkstate.DrainNone); err != nil {
				return err
			}
			fmt.Fprintln(out, "back in service")
			return nil
		}),
	}
	f.add(cmd, "the neighbours")
	return cmd
}

// warnOfCutOff names what the removal of the links leaves without any. An agent
// that does not say is drained none the less.
func warnOfCutOff(ctx context.Context, w io.Writer, agent admin.Client) {
	var c node.CutOff
	if err := agent.Do(ctx, http.MethodGet, "/cut-off", nil, &c); err != nil {
		fmt.Fprintf(w, "warning: what this cuts off is not known: %v\n", err)
		return
	}
	if len(c.Prefixes) > 0 {
		fmt.Fprintf(w, "warning: announced by no other node, and cut off once the links are removed: %s\n", brief(c.Prefixes, 6))
	}
	if len(c.Pods) > 0 {
		fmt.Fprintf(w, "warning: pods of this node that will reach nobody by it: %s\n", brief(c.Pods, 6))
	}
}

// drainTo orders a level and waits until it is acknowledged, telling who is
// waited for whenever that changes.
func drainTo(ctx context.Context, out io.Writer, agent admin.Client, level linkstate.Drain, timeout time.Duration) error {
	st, err := setDrain(ctx, agent, http.MethodPut, level)
	if err != nil {
		return err
	}
	told := ""
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for err == nil && !st.Done {
		if now := brief(ids(st.Waiting), 8); now != told {
			told = now
			fmt.Fprintf(out, "%s: waiting for %s\n", level, now)
		}
		select {
		case <-tick.C:
			st, err = setDrain(ctx, agent, http.MethodGet, level)
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err == nil && st.Level != level.String() {
			return exit(exitNo, fmt.Errorf("somebody else has set the drain to %s", st.Level))
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		who := strings.TrimSpace("not acknowledged within " + timeout.String())
		if told != "" {
			who += " by " + told
		}
		return exit(exitTimeout, fmt.Errorf("the drain (%s) is in force but %s; ask again with a longer --timeout, or dmsc undrain", level, who))
	case errors.Is(err, context.Canceled):
		return exit(exitNo, fmt.Errorf("interrupted; the drain (%s) stays in force until dmsc undrain", level))
	}
	return err
}

// closeToClients has the gateway let its clients go, and waits until it has none
// or for so long.
func closeToClients(ctx context.Context, out io.Writer, agent admin.Client, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var st node.ClientsStatus
	err := agent.Do(ctx, http.MethodPut, "/clients", url.Values{"closed": {"true"}}, &st)
	told := ""
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for err == nil && !(st.Closed && st.Connections == 0) {
		if now := fmt.Sprintf("clients: %d connections, %d requests under way", st.Connections, st.Requests); now != told {
			told = now
			fmt.Fprintln(out, now)
		}
		select {
		case <-tick.C:
			err = agent.Do(ctx, http.MethodGet, "/clients", nil, &st)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Fprintf(out, "clients: %d connections are left after %v; they are cut when the Envoy is stopped\n", st.Connections, patience)
		return nil
	case errors.Is(err, context.Canceled):
		return exit(exitNo, errors.New("interrupted; clients are not let in until dmsc undrain"))
	case err != nil: // no Envoy, no clients
		fmt.Fprintf(out, "clients: not known whether any are left: %v\n", err)
	}
	return nil
}

// setDrain orders a level with PUT, or asks how far it is with GET.
func setDrain(ctx context.Context, agent admin.Client, method string, level linkstate.Drain) (st node.DrainStatus, err error) {
	var q url.Values
	if method == http.MethodPut {
		q = url.Values{"level": {level.String()}}
	}
	return st, controlError(agent.Do(ctx, method, "/drain", q, &st))
}
