// Package compose runs the draft's Figure 2 as containers: docker-compose.yml
// is the network, config its files, and compose_test.go (build tag compose)
// starts it and asserts what an operator is promised. `make e2e-compose` brings
// the engine, the images and the clean-up:
//
//	make e2e-compose
package compose
