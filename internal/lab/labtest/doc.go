// Package labtest runs lab's Envoys in the tests of any package.
//
//	envoy := labtest.StartEnvoy(t, lab.EnvoyConfig{Name: "sg-1", Bootstrap: file, Admin: socket})
//	dump, err := envoy.ConfigDump(t.Context())
package labtest
