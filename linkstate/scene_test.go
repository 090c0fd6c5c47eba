package linkstate_test

import (
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
)

// TestScenes plays testdata/*: each file tells one promise of the protocol and
// shows that it is kept. Run with -rewrite after a deliberate change, and read
// the difference.
func TestScenes(t *testing.T) {
	datadriven.Walk(t, "testdata/scenes", func(t *testing.T, path string) {
		s := linkstatetest.NewScene(1)
		datadriven.RunTest(t, path, func(_ *testing.T, d *datadriven.TestData) string { return s.Do(d) })
	})
}
