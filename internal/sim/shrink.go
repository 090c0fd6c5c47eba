package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
)

// effort bounds the search for a minimal scene, in turns of nodes, so that the
// same failure always gives the same scene.
const effort = 30_000_000

// minimal drops lines from the script as long as it still breaks the same rule
// (delta debugging: halves first, then smaller and smaller pieces), then the
// arguments of the lines that are left.
func minimal(ctx context.Context, opts Options, phases []phase, v linkstatetest.Violation) (*Failure, error) {
	f := &Failure{Violation: v}
	spent := 0
	// breaks returns the lines up to the violation, nil if there is none.
	breaks := func(lines []string) []string {
		if spent > effort || ctx.Err() != nil {
			return nil
		}
		f.Replays++
		n := newNetwork(ctx, opts, false)
		defer func() { spent += n.Traffic().Turns }()
		for i, line := range lines {
			got := n.line(line)
			if n.Stop() {
				return nil
			}
			if got != nil {
				if got.Rule != v.Rule {
					return nil
				}
				f.Violation = *got
				return lines[:i+1]
			}
		}
		return nil
	}
	var lines []string
	for _, p := range phases {
		lines = append(lines, p.lines...)
	}
	f.Scene = lines
	if lines = breaks(lines); lines == nil {
		return f, ctx.Err() // it takes requests to break, which no rule does
	}
	for size := len(lines) / 2; size > 0; {
		before := len(lines)
		for at := 0; at < len(lines); {
			shorter := sound(slices.Concat(lines[:at], lines[min(at+size, len(lines)):]))
			if found := breaks(shorter); found != nil {
				lines = found
			} else {
				at += size
			}
		}
		if size > 1 {
			size /= 2
		} else if len(lines) == before {
			break
		}
	}
	for i := range lines {
		words := strings.Fields(lines[i])
		for w := len(words) - 1; w > 0; w-- {
			if !strings.Contains(words[w], "=") {
				continue
			}
			fewer := slices.Delete(slices.Clone(words), w, w+1)
			plainer := slices.Clone(lines)
			plainer[i] = strings.Join(fewer, " ")
			if found := breaks(plainer); found != nil && len(found) == len(lines) {
				words, lines = fewer, found
			}
		}
	}
	breaks(lines) // for the words of its violation
	f.Scene = lines
	return f, ctx.Err()
}

// sound leaves out what speaks of nodes and links that are not drawn, and makes
// one run of those that follow each other.
func sound(lines []string) []string {
	nodes, links := map[string]bool{}, map[[3]string]bool{}
	link := func(words []string) [3]string {
		id := "0"
		for _, w := range words {
			if name, ok := strings.CutPrefix(w, "id="); ok {
				id = name
			}
		}
		return [3]string{min(words[1], words[2]), max(words[1], words[2]), id}
	}
	var out []string
	for _, line := range lines {
		words := strings.Fields(line)
		ok := true
		switch words[0] {
		case "seed", "rest":
		case "run":
			if last := len(out) - 1; last >= 0 && strings.HasPrefix(out[last], "run ") {
				a, _ := time.ParseDuration(out[last][4:])
				b, _ := time.ParseDuration(words[1])
				out[last] = fmt.Sprintf("run %s", a+b)
				continue
			}
		case "node":
			nodes[words[1]] = true
		case "link":
			if ok = nodes[words[1]] && nodes[words[2]]; ok {
				links[link(words)] = true
			}
		case "cut", "heal", "metric":
			ok = links[link(words)]
		default:
			ok = nodes[words[1]]
		}
		if ok {
			out = append(out, line)
		}
	}
	return out
}
