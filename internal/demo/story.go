package demo

import (
	"context"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// story is one telling.
type story struct {
	plan
	net    *lab.Network
	report *reporter
	opts   Options
	dir    string
}

func (s *story) tell(ctx context.Context) error {
	begin := s.report.started
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := s.net.WaitConverged(wait); err != nil {
		return err
	}
	s.report.say("converged", true, map[string]any{"ms": ms(time.Since(begin))}, "%d nodes converged in %.0f ms", len(s.net.IDs()), ms(time.Since(begin)))
	return nil
}
