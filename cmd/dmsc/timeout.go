package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"
)

// timeout is a flag that is longer than nothing.
type timeout time.Duration

// addTimeout gives a verb --timeout.
func addTimeout(cmd *cobra.Command, into *time.Duration, standard time.Duration, usage string) {
	*into = standard
	cmd.Flags().Var((*timeout)(into), "timeout", usage)
}

func (t *timeout) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = errors.New("nothing can be done in no time; write for example 10s")
	}
	if err == nil {
		*t = timeout(d)
	}
	return err
}

func (t *timeout) String() string { return time.Duration(*t).String() }
func (t *timeout) Type() string   { return "duration" }
