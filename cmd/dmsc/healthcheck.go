package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func healthcheckCommand() *cobra.Command {
	var url string
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a dmsc process whether it is ready (for containers without a shell)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := http.Client{Timeout: limit}
			resp, err := c.Get(url)
			var late net.Error
			switch {
			case errors.As(err, &late) && late.Timeout():
				return exit(exitTimeout, err)
			case err != nil:
				return exit(exitUnreachable, err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
				return exit(exitNo, fmt.Errorf("%s answers %s: %s", url, resp.Status, strings.TrimSpace(string(body))))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&url, "url", "http://127.0.0.1:17805/readyz", "what to ask")
	addTimeout(cmd, &limit, 2*time.Second, "how long to wait")
	return cmd
}
