#!/bin/bash
# Builds the tests' Debian guest: build.sh OUT_DIR
#
# Leaves OUT_DIR/guest.raw, a sparse disk of 1216 MiB with a boot loader and a Debian that has systemd, the QEMU guest
# agent and writers (files/), and prints its path on standard output; progress goes to standard error. Its packages
# come from wherever apt on this machine fetches Debian's. No mount, no loop device; root, or fakeroot and what
# mmdebstrap needs of a user.
# The image is kept as long as the files it is made by stay the same. Killed at any moment, this leaves the old image,
# the new one, or none, never half of one.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
umask 022

guest=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# The demo's guest has the same boot loader, the same kernel and the same first steps.
here=$(cd "$guest/../../demo/base-image" && pwd)
export SOURCE_DATE_EPOCH=1735689600

say() { printf "guest image: %s\n" "$*" >&2; }
stop() {
  say "$*"
  exit 1
}

# shellcheck source=demo/base-image/fetch.sh
. "$here/fetch.sh"
# shellcheck source=demo/base-image/tree.sh
. "$here/tree.sh"
# shellcheck source=demo/base-image/disk.sh
. "$here/disk.sh"
# shellcheck source=test/guest/root.sh
. "$guest/root.sh"

# shellcheck disable=SC2034 # Both are disk.sh's.
disk_mib=1216 root_mib=$((disk_mib - root_start_mib))

require_tools() {
  local tool missing=()
  for tool in apt-get cpio dpkg-deb e2fsck fakeroot flock mcopy mformat mke2fs mmdebstrap sfdisk syslinux tar; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  [ -e "$mbr_code" ] || missing+=("$mbr_code")
  [ ${#missing[@]} -eq 0 ] || stop "missing: ${missing[*]}. Install them with: scripts/setup.sh tests"
  [ "$(dpkg --print-architecture)" = amd64 ] || stop 'the guest is built from amd64 packages, on amd64 alone.'
}

# One line that changes whenever a file that the image is made by does.
recipe_line() {
  local digest
  digest=$({
    cd "$guest" && find . -type f ! -name '*.ts' -print0 | sort -z | xargs -0 sha256sum
    cd "$here" && find fetch.sh tree.sh disk.sh mke2fs.conf boot -type f -print0 | sort -z | xargs -0 sha256sum
  } | sha256sum)
  printf 'recipe %s\n' "${digest%% *}"
}

main() {
  [ $# -eq 1 ] || stop 'usage: build.sh OUT_DIR'
  mkdir -p "$1"
  local out recipe
  out=$(cd "$1" && pwd)
  recipe=$(recipe_line)

  # Two builders in one folder would take each other's work for the leavings of a killed one.
  exec 9>"$out/lock"
  flock 9
  if [ -e "$out/guest.raw" ] && [ "$(cat "$out/guest.stamp" 2>/dev/null)" = "$recipe" ]; then
    printf '%s\n' "$out/guest.raw"
    return
  fi

  require_tools
  rm -rf "$out"/build.*
  work=$(mktemp -d "$out/build.XXXXXX")
  # What mmdebstrap makes for its root may not be this user's to remove; it takes that away itself.
  trap 'rm -rf "$work"' EXIT
  make_kernel "$work"
  make_root_archive "$work"
  make_guest_disk "$work"

  # The stamp vouches for the image: gone before the image changes, back once the new one is in place.
  printf '%s\n' "$recipe" >"$work/guest.stamp"
  rm -f "$out/guest.stamp"
  mv "$work/guest.raw" "$out/guest.raw"
  mv "$work/guest.stamp" "$out/guest.stamp"
  say "done: $(du -m "$out/guest.raw" | cut -f1) MiB of data in a disk of $disk_mib MiB"
  printf '%s\n' "$out/guest.raw"
}

main "$@"
