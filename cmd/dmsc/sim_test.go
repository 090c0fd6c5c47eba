package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnInterruptedSimulationIsNoWrongCommandLine(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	if code := run(ctx, []string{"sim"}, &stdout, &stderr); code != exitNo || !strings.HasPrefix(stderr.String(), "dmsc: interrupted after ") {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}

// The same flags print the same bytes, for people and for programs; what
// differs from run to run goes to stderr.
func TestSameSeedSameBytes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "net.yaml")
	if err := os.WriteFile(file, output(t, "gen", "random", "--nodes", "12", "--prefixes-per-node", "2"), 0o600); err != nil {
		t.Fatal(err)
	}
	simulate := func(args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"sim", "-f", file, "--events", "25", "--loss", "0.1"}, args...), &stdout, &stderr); code != 0 {
			t.Fatalf("exit %d\n%s%s", code, stdout.String(), stderr.String())
		}
		if !strings.HasPrefix(stderr.String(), "took ") {
			t.Errorf("stderr is %q", stderr.String())
		}
		return stdout.String()
	}
	for _, form := range []string{"text", "json"} {
		one, two, other := simulate("-o", form), simulate("-o", form), simulate("-o", form, "--seed", "2")
		if one != two {
			t.Errorf("two runs differ:\n%s\n%s", one, two)
		}
		if one == other {
			t.Errorf("another seed changes nothing")
		}
	}
	var report struct {
		Holds  bool   `json:"holds"`
		Events int    `json:"events"`
		Replay string `json:"replay"`
		Phases []any  `json:"phases"`
	}
	if err := json.Unmarshal([]byte(simulate("-o", "json")), &report); err != nil || !report.Holds || report.Events != 25 || len(report.Phases) != 6 {
		t.Errorf("%+v, error %v", report, err)
	}
	if want := "dmsc sim --seed 1 --events 25 --loss 0.1 --topology " + file; report.Replay != want {
		t.Errorf("replay %q, want %q", report.Replay, want)
	}
}
