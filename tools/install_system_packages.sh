#!/bin/sh
# Install the Debian packages of apt.txt and apt-test.txt that this machine lacks.
set -eu
cd "$(dirname "$0")/.."

if ! command -v dpkg-query >/dev/null; then
    echo 'This is no Debian or Ubuntu: install what apt.txt and apt-test.txt name by your own means.'
    exit 0
fi

missing=
for package in $(grep -hv '^#' apt.txt apt-test.txt); do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo 'All system packages are there.'
    exit 0
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
    as_root=sudo
    command -v sudo >/dev/null || { echo "Ask an administrator to install:$missing"; exit 1; }
fi
$as_root apt-get update -q
# shellcheck disable=SC2086  # a list of words
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -q -y --no-install-recommends $missing
