#!/bin/sh
# See to it that there is a browser for checkouts: Debian's as root, else the build that Playwright fetches. $1: bin of the virtual environment.
set -eu
found() {
    "$1/python" -c 'from probes.checkout.browsers import find; from probes.checkout.job import Launch; find(Launch())' 2>/dev/null
}
found "$1" && exit 0
[ "$(id -u)" != 0 ] || sh tools/debian.sh chromium-headless-shell || true
found "$1" && exit 0
"$1/playwright" install chromium-headless-shell || echo "no browser could be had: checkouts are left out" >&2
