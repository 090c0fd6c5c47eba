package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

// controlFlags say which agent of this machine gets an order, on the control
// socket in its state folder.
type controlFlags struct {
	stateDir, config string
	node             string // if not empty, stateDir may be the folder above those of several nodes
	timeout          time.Duration
}

// add takes who or what may need time.
func (f *controlFlags) add(cmd *cobra.Command, who string) {
	f.addPlace(cmd)
	addTimeout(cmd, &f.timeout, 30*time.Second, "how long "+who+" may take")
}

func (f *controlFlags) addPlace(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.stateDir, "state-dir", "", "state folder of the agent, where its socket is (default: DMSC_STATE_DIR)")
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "or the configuration file of the agent")
}

// agent is the one that is meant.
func (f *controlFlags) agent() (admin.Client, error) {
	dir := f.stateDir
	if dir == "" && f.config != "" {
		cfg, err := config.LoadNode(f.config, nil)
		if err != nil {
			return admin.Client{}, exit(exitUsage, err)
		}
		dir = cfg.StateDir
	}
	if dir == "" {
		dir = os.Getenv("DMSC_STATE_DIR")
	}
	if dir == "" {
		return admin.Client{}, exit(exitUsage, errors.New("say which node: --state-dir DIR or --config FILE of its agent"))
	}
	if f.node != "" {
		below := filepath.Join(dir, f.node)
		if _, err := os.Stat(strings.TrimPrefix(node.ControlSocket(below), "unix://")); err == nil {
			dir = below
		}
	}
	return admin.Client{Address: node.ControlSocket(dir)}, nil
}

// run is the body of a verb that gives the agent one order.
func (f *controlFlags) run(order func(ctx context.Context, out io.Writer, agent admin.Client) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		agent, err := f.agent()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
		defer cancel()
		return order(ctx, cmd.OutOrStdout(), agent)
	}
}

// controlError says what to do about an order that has failed.
func controlError(err error) error {
	var refused *admin.RefusedError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return exit(exitTimeout, fmt.Errorf("%w: the agent runs and has not answered, so what is in force is not known; ask again with a longer --timeout", err))
	case errors.As(err, &refused) && refused.Status == http.StatusBadRequest:
		return exit(exitUsage, errors.New(refused.Text))
	case errors.Is(err, admin.ErrUnreachable), errors.Is(err, admin.ErrNoPage):
		return exit(exitUnreachable, fmt.Errorf("%w; does the agent run here, with this state folder and as this user?", err))
	}
	return exit(exitUnreachable, err) // it starts, or stops
}
