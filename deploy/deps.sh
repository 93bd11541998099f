#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# deps.sh [--list] [build|run|test|bench ...]: installs every Debian package that this project needs (default: all but
# bench). The one list of packages: README, quickstart, tests/run and packaging all call this script.
set -euo pipefail

# Sets are read by name below.
# shellcheck disable=SC2034
build="build-essential cmake ninja-build pkg-config protobuf-c-compiler libprotobuf-c-dev protobuf-compiler
libuv1-dev libssl-dev libcurl4-openssl-dev libjansson-dev libgrpc-dev libyaml-dev node-llhttp uthash-dev"
# shellcheck disable=SC2034
run="etcd-server etcd-client qemu-system-x86 qemu-utils linux-image-cloud-amd64 busybox-static cpio iproute2
util-linux procps openssl kmod curl jq"
# shellcheck disable=SC2034
test="openssl libcriterion-dev clang-14 libclang-rt-14-dev llvm-14 nftables"
# Stores that bench/ compares with, and the counter of instructions.
# shellcheck disable=SC2034
bench="libsqlite3-dev liblmdb-dev valgrind"

list=0
sets=()
for arg in "$@"; do
    case $arg in
        --list) list=1 ;;
        build | run | test | bench) sets+=("$arg") ;;
        *) sed -n '3,4p' "$0" >&2; exit 2 ;;
    esac
done
[ ${#sets[@]} -gt 0 ] || sets=(build run test)
packages=()
for set in "${sets[@]}"; do
    # shellcheck disable=SC2206
    packages+=(${!set})
done
mapfile -t packages < <(printf '%s\n' "${packages[@]}" | awk '!seen[$0]++')
if [ $list = 1 ]; then
    printf '%s\n' "${packages[@]}"
    exit 0
fi

# The kernel is wanted as a file for guests, not installed as this machine's own: guest-image unpacks its package.
missing=()
for package in "${packages[@]}"; do
    [ "$package" = linux-image-cloud-amd64 ] && continue
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "deps: all ${#packages[@]} packages are there"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "deps: missing: ${missing[*]}" >&2
    echo "deps: run 'sudo $0 ${sets[*]}' to install them" >&2
    exit 1
fi

# etcd-server's package starts and enables a system service. We run etcd ourselves, so services started by the
# installation are held back, and the unit is disabled again unless it was there before, also if something fails.
policy=/usr/sbin/policy-rc.d
had_etcd=0
dpkg-query -W -f='${Status}' etcd-server 2>/dev/null | grep -q 'ok installed' && had_etcd=1
# One with our mark is left from a run that was killed.
mark="made by deploy/deps.sh"
had_policy=0
[ ! -e "$policy" ] || grep -q "$mark" "$policy" || had_policy=1
log=$(mktemp "${TMPDIR:-/tmp}/vdc-deps.XXXXXX")
put_back() {
    [ $had_policy = 1 ] || rm -f "$policy"
    if [ $had_etcd = 0 ] && command -v systemctl >/dev/null && [ -e /lib/systemd/system/etcd.service ]; then
        systemctl disable -q --now etcd.service 2>/dev/null || true
    fi
}
trap put_back EXIT
if [ $had_policy = 0 ]; then
    printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
echo "deps: installing ${#missing[@]} packages: ${missing[*]}"
# An index from the last hour is fresh enough; a stale or absent one is not.
if [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -60 2>/dev/null | head -n 1)" ]; then
    apt-get update -qq
fi
apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1 || {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        echo "deps: installation failed, the whole log is $log" >&2
        exit 1
    }
}
rm -f "$log"
echo "deps: done"
