#!/bin/sh
# Boot systemd in a container over a copy of this machine's own / that is never written to (an overlay in memory).
#   unshare --mount sh tools/boot.sh DIR [OPTION of systemd-nspawn]...
# As root, with Debian's systemd-container. The mounts are seen by nobody else, and go with the container.
set -eu
directory=$1
shift
mkdir -p "$directory/memory" "$directory/root" /run/systemd/nspawn
mount -t tmpfs -o size=2g,mode=755 tillwatch "$directory/memory"
mkdir "$directory/memory/upper" "$directory/memory/work"
mount -t overlay -o "lowerdir=/,upperdir=$directory/memory/upper,workdir=$directory/memory/work" overlay "$directory/root"
mount -t tmpfs tmpfs /run/systemd/nspawn
cd "$directory/root"
: > etc/machine-id                     # a machine that has never been booted
rm -rf etc/systemd/system var/log/journal
mkdir -p etc/systemd/system var/log/journal
exec systemd-nspawn --quiet --directory=. --boot --console=pipe --register=no --keep-unit --private-network --link-journal=no \
    --resolv-conf=off --timezone=off --tmpfs=/root --tmpfs=/home "$@" </dev/null
