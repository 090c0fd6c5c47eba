#!/usr/bin/env bash
# Installs the named development tools, each at its pinned version, into
# .cache/bin: scripts/tools.sh buf protoc-gen-go. One that is already there at
# that version costs nothing. This table is the only place with their versions.
set -euo pipefail

declare -A pinned=(
  [buf]=github.com/bufbuild/buf/cmd/buf@v1.75.0
  [protoc-gen-go]=google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
  [protoc-gen-go-grpc]=google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
  [staticcheck]=honnef.co/go/tools/cmd/staticcheck@v0.8.2
)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export GOBIN=$root/.cache/bin
cd "$root"
mkdir -p "$GOBIN"

# current TOOL VERSION GO: the installed tool has this version and was built
# by this Go (staticcheck cannot read the export data of a newer one).
current() {
  [[ -x $GOBIN/$1 ]] &&
    go version -m "$GOBIN/$1" 2>/dev/null |
    awk -v version="$2" -v go="$3" 'NR == 1 { g = $NF } $1 == "mod" { v = $3 } END { exit !(v == version && g == go) }'
}

go=$(go env GOVERSION)
for tool in "$@"; do
  package=${pinned[$tool]:-}
  [[ -n $package ]] || { echo "tools.sh: no tool is called $tool: use one of ${!pinned[*]}" >&2; exit 2; }
  current "$tool" "${package#*@}" "$go" && continue
  echo "installing $tool ${package#*@} into .cache/bin" >&2
  GOFLAGS=-mod=mod go install "$package" ||
    { echo "tools.sh: go install $package failed: the Go module proxy must be reachable" >&2; exit 1; }
done
