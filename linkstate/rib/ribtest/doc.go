// Package ribtest computes routes without any speed: all pairs of distances
// (Floyd–Warshall with a cost per node passed) and every rule of package rib
// spelled out once more, from nothing but the records. It is what package rib
// and the simulator are measured against:
//
//	ref := ribtest.NewReference(view.Records)
//	got, want := ribtest.Text(rib.Compute(view)), ref.Text(view)
//
// It shares no code with package rib on purpose.
package ribtest
