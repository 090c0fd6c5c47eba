// Package config reads the configuration of DMSC's processes. A value comes
// from a flag, else from the environment (DMSC_LISTEN_API is listen.api), else
// from the file, else from the defaults below:
//
//	cfg, err := config.LoadNode("sg-1.yaml", map[string]any{"listen.api": ":0"})
//
// What it returns is checked and complete; the error joins every fault, each
// with its file:line:column, environment variable or flag.
//
// The file is decoded twice: strictly by internal/manifest, which knows
// positions and spelling, and then by viper, which knows precedence. This is
// the only package that imports viper, and nothing keyed by a service prefix
// comes near it: it folds the case of keys and splits them at dots.
package config
