#!/bin/sh
# Install the system packages that this machine lacks, of those that lists such as apt.txt name.
#
#     install_system_packages.sh [--if-free] LIST...
#
# Debian and Ubuntu only; elsewhere it says what is missing. A package whose program is there
# already is not missing. PYTHON names the Python that must have venv.
#
# --if-free is the way of `make lab` and `make test`: it installs as root, or with a sudo that asks
# nothing, and else says in one line what will be skipped. It never fails. What could not be
# installed once is not tried again. With SYSTEM=no it installs nothing.
set -eu
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

program_of() {
    case $1 in
        aria2) echo aria2c ;;
        bubblewrap) echo bwrap ;;
        chromium) echo chromium chromium-browser google-chrome ;;
        nginx-light) echo nginx ;;
        *) echo "$1" ;;
    esac
}

is_there() {
    if [ "$1" = python3-venv ]; then
        "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null
        return
    fi
    if [ "$1" = libatomic1 ]; then # a library, which Playwright's own program needs
        ldconfig -p 2>/dev/null | grep -q 'libatomic\.so\.1 '
        return
    fi
    for program in $(program_of "$1"); do
        path=$(command -v "$program") || continue
        is_placeholder "$path" || return 0
    done
    return 1
}

is_placeholder() { # a script, such as Ubuntu's chromium-browser, for a snap that is not there
    snaps=$(head -c 4096 "$1" 2>/dev/null | grep -ao '/snap/bin/[a-z0-9.+-]*') || return 1
    for snap in $snaps; do
        [ -x "$snap" ] && return 1
    done
    return 0
}

missing_of() { # of these packages, those that are missing
    for package; do
        is_there "$package" || printf ' %s' "$package"
    done
}

apt() {
    apt-get -q -y -o DPkg::Lock::Timeout=120 -o Acquire::Retries=1 -o Acquire::http::Timeout=30 \
        "$@" </dev/null
}

if [ "${1:-}" = --as-root ]; then # the part that runs as root: this script calls itself
    shift
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    no_services=/usr/sbin/policy-rc.d # without it, nginx would start and listen on port 80
    if [ ! -e "$no_services" ]; then
        trap 'rm -f "$no_services"' EXIT
        trap 'exit 130' INT TERM HUP
        printf '#!/bin/sh\nexit 101\n' >"$no_services"
        chmod 755 "$no_services"
    fi
    command -v nginx >/dev/null && had_nginx=yes || had_nginx=no
    apt update || true # what was known before may do
    known=
    for package; do
        if apt-cache show "$package" >/dev/null 2>&1; then known="$known $package"; fi
    done
    # shellcheck disable=SC2086  # a list of words
    if [ -n "$known" ] && ! apt install --no-install-recommends $known; then
        for package in $known; do
            apt install --no-install-recommends "$package" || true
        done
    fi
    if [ "$had_nginx" = no ] && command -v systemctl >/dev/null; then
        systemctl disable nginx 2>/dev/null || true # nor at the next start of the machine
    fi
    exit 0
fi

if_free=no
if [ "${1:-}" = --if-free ]; then
    if_free=yes
    shift
fi
here=$(cd "$(dirname "$0")" && pwd)
failed_before=$here/../.streamlab/not-installed
# shellcheck disable=SC2046  # a list of words
missing=$(missing_of $(cat "$@" | grep -v '^#'))

if [ -z "$missing" ]; then
    [ $if_free = yes ] || echo 'All system packages are there.'
    exit 0
fi

skipped="Not installed:$missing. What needs it is skipped"
if [ $if_free = yes ] && [ "${SYSTEM:-}" = no ]; then
    echo "$skipped; make system installs it."
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "$skipped; install it with this system's package manager."
    [ $if_free = yes ] && exit 0 || exit 1
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
    as_root=sudo
    if ! command -v sudo >/dev/null; then
        echo "$skipped; an administrator can install it with make system."
        [ $if_free = yes ] && exit 0 || exit 1
    fi
    if [ $if_free = yes ]; then
        as_root='sudo -n'
        if ! sudo -n true 2>/dev/null; then
            echo "$skipped; make system installs it, and asks for your password."
            exit 0
        fi
    fi
fi

if [ $if_free = yes ] && [ "$(cat "$failed_before" 2>/dev/null)" = "$missing" ]; then
    echo "$skipped; make system tries again to install it, and shows why it failed before."
    exit 0
fi

echo "Installing with apt-get, a minute or two:$missing"
if [ $if_free = yes ]; then
    # shellcheck disable=SC2086  # a command and its option
    $as_root sh "$here/install_system_packages.sh" --as-root $missing >/dev/null 2>&1 || true
else
    # shellcheck disable=SC2086
    $as_root sh "$here/install_system_packages.sh" --as-root $missing
fi

# shellcheck disable=SC2086
missing=$(missing_of $missing)
if [ -z "$missing" ]; then
    rm -f "$failed_before"
    exit 0
fi
mkdir -p "$here/../.streamlab"
echo "$missing" >"$failed_before"
echo "Could not be installed:$missing. What needs it is skipped; make system shows why."
[ $if_free = yes ]
