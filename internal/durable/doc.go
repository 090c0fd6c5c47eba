// Package durable replaces files so that a crash of the process, or of the
// machine, leaves the old or the new content:
//
//	err := durable.Write(path, 0o600, func(w io.Writer) error { … })
//
// When Write and Remove return without an error, what they did is on the disk.
package durable
