// Package manifest reads the YAML an operator writes: strictly, with every
// fault of a file reported at once, each at its file:line:column, under a
// stable code, in words that name no Go type.
//
// All of DMSC's documents have one shape (design §8):
//
//	apiVersion: dmsc.io/v1alpha1
//	kind: Topology
//	metadata: {name: figure-2}
//	spec: {…}
//
// A package that owns a kind loads it like this:
//
//	docs, err := manifest.Load("policies/")
//	for _, d := range docs {
//		var spec qosSpec // yaml tags in camelCase
//		if err := d.Decode(&spec); err != nil { … }
//		if spec.Clear > spec.Enter {
//			faults = append(faults, d.Errorf("$.spec.clear", manifest.CodeConflict, "…"))
//		}
//	}
//
// Decode accepts structs, slices, maps with string keys, pointers, booleans,
// numbers, strings and encoding.TextUnmarshaler, and among the latter the
// units of this package: [Duration], [Bandwidth] and [Percent]. The tag option
// "required" makes a missing key a fault, "inline" reads an embedded struct's
// keys in place.
//
// The YAML accepted is the plain part of the language: anchors, aliases, tags
// and merge keys are refused, whole numbers are decimal, and text that looks
// like a number needs quotes where a string is meant. Goccy's parser supplies
// the tree with positions; the decoding is our own because its decoder stops
// at the first fault and prints Go types.
package manifest
