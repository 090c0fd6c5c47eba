package labtest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/envoybin"
	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// StartEnvoy runs an Envoy until the test ends, and returns when it is live, at
// the latest after 30 s. Binary and Log may be left out.
func StartEnvoy(t testing.TB, c lab.EnvoyConfig) *lab.Envoy {
	t.Helper()
	e := LaunchEnvoy(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := e.WaitLive(ctx); err != nil {
		t.Fatal(err)
	}
	return e
}

// LaunchEnvoy is StartEnvoy without the wait.
func LaunchEnvoy(t testing.TB, c lab.EnvoyConfig) *lab.Envoy {
	t.Helper()
	if c.Binary == "" {
		found, err := envoybin.Find(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.Binary = found.Path
	}
	if c.Log == "" {
		c.Log = filepath.Join(t.TempDir(), "envoy.log")
	}
	g := lab.NewGroup()
	e, err := lab.LaunchEnvoy(g, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = e.Kill() // nothing of it is asked any more
		if err := g.Stop(5 * time.Second); err != nil {
			t.Error(err)
		}
	})
	return e
}
