#!/usr/bin/env bash
# Makes what docker-compose.yml mounts and runs, with classic builds FROM
# scratch: the image dmsc:e2e around bin/dmsc, an Envoy image, and a bootstrap
# per node in BOOTSTRAP_FOLDER (.cache/compose). When no registry answers, the
# Envoy image is made from the binary that scripts/envoy.sh finds and the
# libraries it names. Prints the variables for docker-compose.yml.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bootstraps=${BOOTSTRAP_FOLDER:-$root/.cache/compose}
image=${ENVOY_IMAGE:-envoyproxy/envoy:v1.40.0}

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

# build NAME ENTRYPOINT: the folder $context/NAME/rootfs is the whole image.
build() {
  local log
  printf 'FROM scratch\nCOPY rootfs/ /\nENTRYPOINT ["%s"]\n' "$2" >"$context/$1/Dockerfile"
  log=$(DOCKER_BUILDKIT=0 docker build --tag "$1:e2e" "$context/$1" 2>&1) || { echo "$log" >&2; exit 1; }
}

[[ -x $root/bin/dmsc ]] || { echo "images.sh: bin/dmsc is missing: run \`make build\`" >&2; exit 1; }
mkdir -p "$context/dmsc/rootfs" "$bootstraps"
cp "$root/bin/dmsc" "$context/dmsc/rootfs/dmsc"
build dmsc /dmsc

for node in sg-1 sg-2 sg-3 sg-4 sr-1 sr-2 sr-3; do
  "$root/bin/dmsc" bootstrap --node "$node" --xds unix:///run/dmsc/xds.sock --admin unix:///run/dmsc/admin.sock >"$bootstraps/$node.yaml"
done

if ! docker image inspect "$image" >/dev/null 2>&1 && ! timeout 120 docker pull --quiet "$image" >/dev/null 2>&1; then
  echo "no registry has $image: making dmsc-envoy:e2e from the local Envoy" >&2
  envoy=$("$root/scripts/envoy.sh")
  rootfs=$context/dmsc-envoy/rootfs
  install -D -m 755 "$envoy" "$rootfs/usr/local/bin/envoy"
  # Absolute paths in the list are the loader and the libraries, where it looks for them.
  for library in $(ldd "$envoy" | grep -oE '/[^ ]+'); do
    install -D -m 755 "$(realpath "$library")" "$rootfs$library"
  done
  build dmsc-envoy /usr/local/bin/envoy
  image=dmsc-envoy:e2e
fi
echo "export ENVOY_IMAGE=$image BOOTSTRAP_FOLDER=$bootstraps"
