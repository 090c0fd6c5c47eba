# Two commands on a fresh machine: `make demo` and `make test`. Each does all
# its own set-up; what they download stays in .cache/, what they build in bin/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

ARGS ?=
PKG ?= ./...
FUZZTIME ?= 30s
SOAK ?= 10
SEEDS ?= 100000
CHURN ?= 60s
RUNS ?= 20

# Packages that run whole networks and time them: one at a time, alone.
NETWORKS = /(e2e|internal/demo|internal/bench)$$

# Every recipe names the Envoy that scripts/envoy.sh found or unpacked.
WITH_ENVOY = DMSC_ENVOY="$$(scripts/envoy.sh)"

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## build bin/dmsc, one static binary
	CGO_ENABLED=0 go build -trimpath -o bin/dmsc ./cmd/dmsc

.PHONY: envoy
envoy: ## find an Envoy, or unpack the pinned one into .cache/envoy
	@scripts/envoy.sh

.PHONY: demo
demo: build envoy ## run the draft's Figure 2 on real Envoys; ARGS=--once
	$(WITH_ENVOY) bin/dmsc demo $(ARGS)

.PHONY: test
test: envoy ## vet and run every test, the demo and real Envoys included
	go vet ./...
	$(WITH_ENVOY) go test -count=1 -timeout 15m $$(go list ./... | grep -vE '$(NETWORKS)')
	$(WITH_ENVOY) go test -count=1 -timeout 15m -p 1 $$(go list ./... | grep -E '$(NETWORKS)')

.PHONY: race
race: envoy ## run the tests under the race detector; PKG=./linkstate/...
	$(WITH_ENVOY) go test -race -count=1 -timeout 20m $(PKG)

.PHONY: churn
churn: envoy ## move, cut, drain, slow links and change metrics under 1,000 requests per second for CHURN (60s)
	$(WITH_ENVOY) DMSC_CHURN=$(CHURN) go test -count=1 -timeout 0 -v -run '^TestNothingIsLostWhilePrefixesAndLinksMove$$' ./e2e

.PHONY: bench
bench: ## run the benchmarks; PKG=./linkstate/...
	go test -run '^$$' -bench . -benchmem -timeout 30m $(PKG)

.PHONY: bench-convergence
bench-convergence: build envoy ## break eight real nodes RUNS (20) times and count until the last FIB
	$(WITH_ENVOY) bin/dmsc bench convergence --runs $(RUNS)

.PHONY: bench-sync
bench-sync: build envoy ## give a fresh node 10k nodes and 100k prefixes; time and memory
	$(WITH_ENVOY) bin/dmsc bench sync --runs 3

.PHONY: bench-xds
bench-xds: build ## our xDS server beside go-control-plane's caches: 1,000 Envoys, one change
	bin/dmsc bench xds

.PHONY: bench-fib
bench-fib: build envoy ## forward by 100 to 100k prefixes; change -> first request on the new path
	$(WITH_ENVOY) bin/dmsc bench fib

.PHONY: bench-failover
bench-failover: build envoy ## kill and freeze Envoys, agents, the control plane; lost requests
	$(WITH_ENVOY) bin/dmsc bench failover

# On a quiet machine: what else runs is in the figures.
.PHONY: bench-record
bench-record: build envoy ## write all benchmarks as text to docs/bench/
	@mkdir -p docs/bench
	go test -run '^$$' -bench . -benchmem -timeout 60m ./linkstate/... | tee docs/bench/linkstate.txt
	go test -run '^$$' -bench . -benchmem -timeout 30m ./translator ./xds ./internal/node | tee docs/bench/publishing.txt
	$(WITH_ENVOY) bin/dmsc bench convergence --runs $(RUNS) | tee docs/bench/convergence.txt
	$(WITH_ENVOY) bin/dmsc bench sync --runs 3 | tee docs/bench/sync.txt
	bin/dmsc bench xds | tee docs/bench/xds.txt
	$(WITH_ENVOY) bin/dmsc bench fib | tee docs/bench/fib.txt
	$(WITH_ENVOY) bin/dmsc bench failover | tee docs/bench/failover.txt

.PHONY: lint
lint: ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l .); \
	if [[ -n $$unformatted ]]; then echo "not gofmt-clean:" $$unformatted >&2; exit 1; fi
	go vet ./...
	go vet -tags compose ./e2e/compose
	@scripts/tools.sh staticcheck
	.cache/bin/staticcheck ./...
	.cache/bin/staticcheck -tags compose ./e2e/compose

.PHONY: generate
generate: ## lint the protos and generate their Go files
	@scripts/tools.sh buf protoc-gen-go protoc-gen-go-grpc
	.cache/bin/buf lint
	PATH="$(CURDIR)/.cache/bin:$$PATH" .cache/bin/buf generate

.PHONY: check-generate
check-generate: ## fail when a committed Go file is not what its proto generates
	go test -count=1 ./api/...

.PHONY: golden
golden: envoy ## rewrite scenes and golden files; read the diff before you commit it
	$(WITH_ENVOY) go test -count=1 $$(grep -rl 'cockroachdb/datadriven"' --include='*_test.go' . | xargs -n 1 dirname | sort -u) -rewrite
	$(WITH_ENVOY) go test -count=1 $$(grep -rl 'flag.Bool("update"' --include='*_test.go' . | xargs -n 1 dirname | sort -u) -update

.PHONY: fuzz
fuzz: ## run every fuzz test for FUZZTIME (30s)
	@grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | while IFS=: read -r file name; do \
		echo "$${name#func } in $$(dirname "$$file")"; \
		go test -run '^$$' -fuzz "^$${name#func }\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")"; \
	done

.PHONY: soak
soak: soak-sim soak-demo ## simulate SEEDS (100000) networks, then run the demo's story SOAK (10) times

.PHONY: soak-sim
soak-sim: ## simulate SEEDS (100000) random networks through random faults
	DMSC_SEEDS=$(SEEDS) go test -count=1 -timeout 0 -v -run '^TestNetworksHoldThroughAnyFaults$$' ./internal/sim

.PHONY: soak-demo
soak-demo: build envoy ## run the demo's whole story SOAK (10) times in a row
	@for ((i = 1; i <= $(SOAK); i++)); do echo "run $$i of $(SOAK)"; $(WITH_ENVOY) bin/dmsc demo --once $(ARGS); done

.PHONY: e2e-compose
e2e-compose: build envoy ## run Figure 2 as containers; as root it starts an engine when none answers
	$(WITH_ENVOY) e2e/compose/run.sh

.PHONY: check
check: lint test ## all that a push needs

.PHONY: clean
clean: ## remove what was built and downloaded
	rm -rf bin .cache
