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
ntfs-3g                         ntfs-3g
setfattr                        attr
fsck.vfat                       dosfstools
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

# Cleaning changes ext4 in a tiny guest, which boots a kernel of this machine. Where there is none that we may read, as in a
# container, one is unpacked into .cache/kernel and not installed: installed it would bring systemd, udev and a boot loader's
# scripts with it. src/cleaning/appliance/kernel.ts looks at the same places.
has_kernel() {
  local folder version
  for folder in "$1"/lib/modules/* "$1"/usr/lib/modules/*; do
    version=${folder##*/}
    [ -d "$folder/kernel" ] || continue
    if [ -r "$1/boot/vmlinuz-$version" ] || [ -r "$folder/vmlinuz" ]; then return 0; fi
  done
  return 1
}

# The packages of the newest kernel that apt knows, on one line: Debian's has its modules in it, Ubuntu's has not.
kernel_packages() {
  local found
  found=$(apt-cache depends linux-image-cloud-amd64 2> /dev/null | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p')
  if [ -z "$found" ]; then
    found=$(apt-cache depends linux-image-virtual 2> /dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p')
    found=${found:+$found linux-modules-${found#linux-image-}}
  fi
  [ -n "$found" ] && echo "$found"
}

fetch_kernel() {
  local target=$root/.cache/kernel work list package
  if has_kernel '' || has_kernel "$target"; then return 0; fi
  if ! command -v apt-get > /dev/null; then
    say 'no kernel is installed here that cleaning ext4 could use. Install one, or name its folder in the settings.'
    return 0
  fi
  if ! list=$(kernel_packages); then
    if [ "$(id -u)" -eq 0 ]; then
      apt-get -o DPkg::Lock::Timeout=120 update > /dev/null 2>&1 < /dev/null || true
    elif command -v sudo > /dev/null; then
      sudo -n apt-get -o DPkg::Lock::Timeout=120 update > /dev/null 2>&1 < /dev/null || true
    fi
    if ! list=$(kernel_packages); then
      say 'apt knows no kernel that cleaning ext4 could use. Run apt-get update, then come back.'
      exit 1
    fi
  fi
  say "fetching $list (unpacked, not installed)"
  mkdir -p "$root/.cache"
  work=$(mktemp -d "$root/.cache/kernel.XXXXXX")
  local -a packages
  read -ra packages <<< "$list"
  # As root, apt would drop to a user that may not write here.
  if ! (cd "$work" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "${packages[@]}" >&2); then
    rm -rf "$work"
    say 'the kernel could not be fetched. Run apt-get update, then come back.'
    exit 1
  fi
  for package in "$work"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --no-same-owner -C "$work" --exclude=./usr/share
  done
  rm -f "$work"/*.deb
  chmod 755 "$work"
  # Whoever was faster has made the same.
  rm -rf "$target.old"
  if [ -e "$target" ]; then mv -T "$target" "$target.old"; fi
  mv -T "$work" "$target"
  rm -rf "$target.old"
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
fetch_kernel
install_modules
