// Package archtest holds the import rules of design §2 as a test: imports go
// one way, pure packages touch no clock, socket or goroutine, and each big
// dependency has one door. A rule that has to change is changed here, with the
// ADR that says why.
package archtest
