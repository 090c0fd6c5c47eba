package scsc_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/scsc"
)

func TestTermGrowsWithEachStartAlsoWhenItsFileIsLost(t *testing.T) {
	file := filepath.Join(t.TempDir(), "term")
	now := time.Unix(1_800_000_000, 0)
	var last uint64
	for i := range 6 {
		if i == 3 {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(10 * time.Second)
		term, err := scsc.NextTerm(file, now)
		if err != nil || term <= last {
			t.Fatalf("start %d: term %d %v, want more than %d", i, term, err, last)
		}
		last = term
	}
	if left, err := filepath.Glob(file + ".*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if err := os.WriteFile(file, []byte("seven"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := scsc.NextTerm(file, now); err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("err = %v, want what to do", err)
	}
}
