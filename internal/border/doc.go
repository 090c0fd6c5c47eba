// Package border reads the documents that say what passes the border of the
// mesh at a gateway (draft §4.2(3)):
//
//	HostAlias        requests that know no service prefix enter as one, by host and path
//	ExternalService  requests of pods leave for a host outside the mesh
//
// An agent reads them from the file or folder that its configuration names:
//
//	set, err := border.Load("/etc/dmsc/sg-1.d")
//	if err != nil {
//		return err // every fault, each with its place; keep the last good set
//	}
//	if set, err = set.CheckFiles(regular.ReadFile); err != nil {
//		return err // a file of certificates that Envoy would refuse
//	}
//	state.Aliases, state.Externals = set.Aliases, set.Externals
//
// What Envoy refuses all the same goes back to what it was: Set.Revert. LoadPair
// judges the certificate of the listener for clients outside the mesh.
//
// Documents of a set hold together or not at all: two that claim the same
// requests are a fault that names both. So the order of files and documents has
// no influence.
package border
