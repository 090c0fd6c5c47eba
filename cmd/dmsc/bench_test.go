package main

import (
	"strings"
	"testing"
)

func TestABenchmarkRefusesSizesItCannotHave(t *testing.T) {
	for line, want := range map[string]string{
		"dmsc bench xds --streams 0":                 "--streams is from 1 to 5000",
		"dmsc bench xds --clusters 0":                "--clusters from 1 to 100000",
		"dmsc bench xds --prefixes 150":              "--prefixes: 150 is not a multiple of 100",
		"dmsc bench fib --sizes 100,7":               "--sizes: 7 is not a multiple of 100",
		"dmsc bench fib --sizes ,":                   "invalid argument",
		"dmsc bench fib --prefixes 200000":           "--prefixes: 200000 is not a multiple of 100 up to 100000",
		"dmsc bench fib --rps 0":                     "--rps is from 1 to 20000",
		"dmsc bench fib --rounds 0":                  "--rounds at least 1",
		"dmsc bench xds --runs 0":                    "--runs is at least 1",
		"dmsc bench xds -o yaml":                     `output "yaml" is not one of text, json`,
		"dmsc bench failover --watch 1ms":            "--watch from 100ms to 1m",
		"dmsc bench failover --rps 1e9":              `"1e9"`,
		"dmsc bench sync --nodes 0":                  "--nodes is from 1 to 99999",
		"dmsc bench convergence --runs -1":           "--runs is at least 1",
		"dmsc bench xds --streams 1 --prefixes many": `"many"`,
	} {
		if got := command(t, line); !strings.Contains(got, want) || !strings.HasSuffix(got, "exit 2\n") {
			t.Errorf("%s:\n%s", line, got)
		}
	}
}

// bench stage is for bench xds alone.
func TestTheStageOfABenchmarkIsNotShown(t *testing.T) {
	help := string(output(t, "bench", "--help"))
	if !strings.Contains(help, "\n  xds ") || strings.Contains(help, "stage") {
		t.Error(help)
	}
}
