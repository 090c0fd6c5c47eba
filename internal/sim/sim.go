package sim

import (
	"context"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
)

// Options says what to simulate.
type Options struct {
	Topology *topology.Topology
	Seed     uint64
	Events   int
	// Loss is the chance of each control message to be lost; to come twice and
	// to be overtaken have the same chance. 0..0.5.
	Loss float64
	// Hold and Lease shorten those of the nodes, and with them every rest; 0
	// stands for the defaults of linkstate.Config.
	Hold, Lease time.Duration
	// Later adds a rest after two lifetimes of a record.
	Later bool
	// Progress, if set, is called after every phase.
	Progress func(Phase)
	// Setup, if set, is called with each network before it is drawn, to hook into
	// it: to make liars, or to check more.
	Setup func(n *linkstatetest.Network)
}

// Report is what a simulation has found. Durations are of virtual time.
type Report struct {
	Topology   string                `json:"topology"`
	Nodes      int                   `json:"nodes"`
	Links      int                   `json:"links"`
	Prefixes   int                   `json:"prefixes"`
	Seed       uint64                `json:"seed"`
	Loss       float64               `json:"loss"`
	Events     int                   `json:"events"`
	Holds      bool                  `json:"holds"`
	ByKind     map[string]int        `json:"events_by_kind"`
	Phases     []Phase               `json:"phases"`
	DurationMS int64                 `json:"duration_ms"`
	Traffic    linkstatetest.Traffic `json:"traffic"`
	Runs       map[string]int        `json:"computations_by_kind"`
	Requests   Requests              `json:"requests"`
	Checks     Checks                `json:"checks"`
	Failure    *Failure              `json:"failure,omitempty"`
}

// Phase is some events and the rest after them.
type Phase struct {
	Name     string         `json:"name"`
	StartMS  int64          `json:"start_ms"`
	EndMS    int64          `json:"end_ms"`
	RestMS   int64          `json:"rest_ms"` // from the last event to the rest
	Parts    int            `json:"parts"`   // the living network is in as many
	Events   map[string]int `json:"events_by_kind"`
	Messages int            `json:"messages"`
	Requests Requests       `json:"requests"`
}

// Failure is a broken rule and the shortest script found that breaks it.
type Failure struct {
	linkstatetest.Violation
	AtMS  int64    `json:"at_ms"`
	Scene []string `json:"scene"`
	// Replays is how many scripts were played to find the scene.
	Replays int `json:"replays"`
}

// Run simulates. The error is ctx's, whose end it notices within a second, or
// about opts; a broken rule is in the Report.
func Run(ctx context.Context, opts Options) (*Report, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	phases := write(opts)
	n := newNetwork(ctx, opts, true)
	report := n.report()
	for _, p := range phases {
		done, violation := n.play(p)
		if err := ctx.Err(); err != nil {
			return nil, err // what was played last means nothing
		}
		report.Phases = append(report.Phases, done)
		if opts.Progress != nil {
			opts.Progress(done)
		}
		if violation != nil {
			f, err := minimal(ctx, opts, phases, *violation)
			if err != nil {
				return nil, err
			}
			f.AtMS = n.sinceStart()
			report.Failure = f
			break
		}
	}
	n.finish(report)
	return report, nil
}
