#!/usr/bin/env bash
# Runs compose_test.go: Figure 2 as containers on the Docker engine that
# answers. When none does and this is root, it installs Debian's docker.io and
# docker-compose if they are missing and starts an engine in process, mount and
# network namespaces of its own: what that engine leaves in the kernel
# (bridges, packet filter, mounts, containers) ends with it, and its data is in
# a temporary folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() {
  echo "run.sh: $*" >&2
  exit 1
}

# compose prints the Compose command that works here.
compose() {
  if docker compose version >/dev/null 2>&1; then
    echo docker compose
  elif docker-compose version >/dev/null 2>&1; then
    echo docker-compose
  else
    return 1
  fi
}

engine_answers() { docker info >/dev/null 2>&1; }

# test_network WORK needs an engine that answers.
test_network() {
  local exports
  DMSC_COMPOSE=$(compose) || fail "no Compose works with this engine: install docker compose v2, or docker-compose 1.29.2 or newer"
  export DMSC_COMPOSE BOOTSTRAP_FOLDER=$1/bootstraps
  exports=$(./images.sh) || fail "the images cannot be made"
  eval "$exports"
  echo "engine $(docker info --format '{{.ServerVersion}}'), $DMSC_COMPOSE $($DMSC_COMPOSE version --short)"
  tested=yes
  go test -tags compose -count=1 -timeout 10m -v .
}

# own_engine WORK runs inside the new namespaces, as their first process.
own_engine() {
  ip link set lo up
  export DOCKER_HOST=unix://$1/docker.sock
  dockerd --host "$DOCKER_HOST" --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/dockerd.pid" \
    --cgroup-parent "/$(basename "$1")" >"$1/dockerd.log" 2>&1 &
  local engine=$! deadline=$((SECONDS + 60))
  until engine_answers; do
    if ((SECONDS > deadline)) || ! kill -0 "$engine" 2>/dev/null; then
      tail -n 20 "$1/dockerd.log" >&2
      fail "dockerd does not start; its last lines are above"
    fi
    sleep 0.1
  done
  local result=0
  (test_network "$1") || result=$?
  kill "$engine"
  wait "$engine" || true
  return "$result"
}

if [[ ${1:-} == own-engine ]]; then
  own_engine "$2"
  exit
fi

work=$(mktemp -d -t dmsc-compose.XXXXXX)
clean_up() {
  if [[ -n ${tested:-} ]]; then # on an engine that goes on without us
    $DMSC_COMPOSE -p dmsc-e2e down --volumes --remove-orphans --timeout 1 >/dev/null 2>&1 || true
    docker image rm dmsc:e2e dmsc-envoy:e2e >/dev/null 2>&1 || true
  fi
  rm -rf "$work"
  find /sys/fs/cgroup -depth -type d -path "*/$(basename "$work")*" -exec rmdir {} + 2>/dev/null || true
}
trap clean_up EXIT

if engine_answers; then
  test_network "$work"
  exit
fi

((EUID == 0)) || fail "no Docker engine answers: start one, or run this as root to have one started"
missing=()
command -v dockerd >/dev/null || missing+=(docker.io)
compose >/dev/null || missing+=(docker-compose)
command -v ip >/dev/null || missing+=(iproute2)
if ((${#missing[@]})); then
  command -v apt-get >/dev/null || fail "missing ${missing[*]}, and this is no Debian: install them"
  echo "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
unshare --fork --kill-child --pid --mount-proc --mount --net "./$(basename "$0")" own-engine "$work"
