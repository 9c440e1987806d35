#!/usr/bin/env bash
# Makes this checkout ready to run: the programs it drives (Debian packages), then its npm packages. With the word
# `tests` also what only the tests drive.
# May run any number of times; says nothing when there is nothing to do. All messages go to standard error.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
PATH=$PATH:/usr/sbin:/sbin

# What is needed, and the Debian package it comes from: a program, or a file when it has a slash.
needs='
qemu-system-x86_64              qemu-system-x86
qemu-img                        qemu-utils
qemu-nbd                        qemu-utils
qemu-io                         qemu-utils
nbdinfo                         libnbd-bin
nbdcopy                         libnbd-bin
nbdkit                          nbdkit
mcopy                           mtools
syslinux                        syslinux
/usr/lib/syslinux/mbr/mbr.bin   syslinux-common
mke2fs                          e2fsprogs
sfdisk                          fdisk
cpio                            cpio
xz                              xz-utils
zstd                            zstd
busybox                         busybox-static
'

# Only `setup.sh tests` wants these: a Debian to build a guest of, a real S3 service on this machine.
if [ "${1:-}" = tests ]; then
  needs+='
mmdebstrap                      mmdebstrap
fakeroot                        fakeroot
newuidmap                       uidmap
ceph-mon                        ceph-mon
ceph-osd                        ceph-osd
radosgw                         radosgw
radosgw-admin                   ceph-common
'
fi

say() { echo "setup: $*" >&2; }

# busybox may also be the dynamically linked one, which cannot start inside a guest that has no libraries.
is_there() {
  case $1 in
    */*) [ -e "$1" ] ;;
    busybox) command -v busybox > /dev/null && ! ldd "$(command -v busybox)" > /dev/null 2>&1 ;;
    *) command -v "$1" > /dev/null ;;
  esac
}

missing_packages() {
  local need package
  while read -r need package; do
    if [ -n "$need" ] && ! is_there "$need"; then echo "$package"; fi
  done <<< "$needs"

  # Further packages, one name a line, where the demo names some.
  local list=$root/demo/base-image/packages.txt
  [ -f "$list" ] || return 0
  sed 's/#.*//' "$list" | tr -s '[:space:]' '\n' | while read -r package; do
    [ -n "$package" ] || continue
    case $package in
      *[!a-z0-9.+-]* | -*)
        say "$list names '$package', which is no package."
        return 1
        ;;
    esac
    case $(dpkg-query -W -f='${Status}' "$package" 2> /dev/null || true) in
      *' installed') ;;
      *) echo "$package" ;;
    esac
  done
}

install_packages() {
  local -a packages=() as_root=()
  local list log
  list=$(missing_packages)
  [ -n "$list" ] || return 0
  mapfile -t packages < <(sort -u <<< "$list")
  local line="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
  if ! command -v apt-get > /dev/null; then
    say "these Debian packages are needed, or what your system has in their place: ${packages[*]}"
    exit 1
  fi
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo > /dev/null || ! sudo -n true 2> /dev/null; then
      say 'some packages are missing. Install them as root, then come back:'
      echo "$line" >&2
      exit 1
    fi
    as_root=(sudo -n)
  fi
  say "installing ${packages[*]}"
  log=$(mktemp)
  # `env` carries the variable through sudo, which drops those it is not told to keep.
  if ! {
    "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 update &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "${packages[@]}"
  } > "$log" 2>&1 < /dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    say "the packages could not be installed. The command was: $line"
    exit 1
  fi
  rm -f "$log"
  # A list that was installed and is still missing would come back at every start.
  list=$(missing_packages | sort -u | tr '\n' ' ')
  if [ -n "$list" ]; then
    say "installed, and yet something is missing from: $list"
    exit 1
  fi
}

# Any Node from 20 up can install; the program itself runs on the one it installs.
check_node() {
  local version
  if ! command -v node > /dev/null || ! command -v npm > /dev/null; then
    say 'Node 20 or newer with npm is needed on the PATH.'
    exit 1
  fi
  version=$(node --version)
  version=${version#v}
  if [ "${version%%.*}" -lt 20 ]; then
    say "Node 20 or newer is needed, and $(command -v node) is $version."
    exit 1
  fi
}

install_modules() {
  local stamp=$root/node_modules/.calotype-lock hash
  hash=$(sha256sum < "$root/package-lock.json" | cut -d ' ' -f 1)
  if [ -x "$root/node_modules/.bin/node" ] && [ "$(cat "$stamp" 2> /dev/null)" = "$hash" ]; then return 0; fi
  check_node
  say 'installing the npm packages of package-lock.json (npm ci)'
  local -a options=(--no-audit --no-fund --loglevel=error)
  # A progress bar is for a person who watches.
  if [ -n "${CI:-}" ] || [ ! -t 2 ]; then options+=(--no-progress); fi
  rm -f "$stamp"
  if ! (cd "$root" && npm ci "${options[@]}" >&2); then
    say 'npm ci failed. Its own message is above.'
    exit 1
  fi
  if ! "$root/node_modules/.bin/node" --version > /dev/null; then
    say "the Node in node_modules does not start on this machine ($(uname -sm))."
    exit 1
  fi
  # As bin/calotype has it. Without it the first start is only slower.
  NODE_COMPILE_CACHE=$root/node_modules/.cache/compiled "$root/node_modules/.bin/node" "$root/scripts/warm.mjs" || true
  echo "$hash" > "$stamp"
}

install_packages
install_modules
