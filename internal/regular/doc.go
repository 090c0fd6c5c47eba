// Package regular reads the files that an operator names, and nothing that only
// looks like one: a FIFO or a device in a folder would hold its reader for ever,
// and with it whatever reads the folder. Nor does it read without a bound.
//
//	data, err := regular.ReadFile(path) // in place of os.ReadFile
package regular
