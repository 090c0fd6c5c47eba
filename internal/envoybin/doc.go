// Package envoybin finds an Envoy that can run a DMSC node. Programs and tests
// call it once and start what it returns:
//
//	envoy, err := envoybin.Find(ctx)
//	if err != nil {
//		return err // one sentence, with the next step
//	}
//	cmd := exec.CommandContext(ctx, envoy.Path, "-c", file)
//
// scripts/envoy.sh applies the same order and puts a pinned Envoy into the
// project's cache when there is none.
package envoybin
