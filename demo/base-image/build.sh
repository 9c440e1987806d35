#!/bin/bash
# Builds the demo's base image: build.sh OUT_DIR
#
# Leaves OUT_DIR/base.raw, a sparse 4 GiB disk with a boot loader and a small Linux, and prints its path on standard
# output; progress goes to standard error. Needs the packages in packages.txt, no root, no mount, no loop device.
# The image is kept as long as the kernel's packages and the files of this folder stay the same; a call that finds
# it returns at once. Killed at any moment, it leaves the old image, the new one, or none, never half of one.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Every time stamp in the image that is ours to choose: 2025-01-01T00:00:00Z.
export SOURCE_DATE_EPOCH=1735689600

say() { printf "base image: %s\n" "$*" >&2; }
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

require_tools() {
  local tool missing=()
  for tool in apt-cache apt-get cpio debugfs dpkg-deb e2fsck flock mcopy mformat mke2fs sfdisk syslinux xz zstd; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  [ -e "$mbr_code" ] || missing+=("$mbr_code")
  [ ${#missing[@]} -eq 0 ] ||
    stop "missing: ${missing[*]}. Install them with: apt-get install $(tr '\n' ' ' <"$here/packages.txt")"
  [ "$(dpkg --print-architecture)" = amd64 ] || stop 'the demo image is built from amd64 packages, on amd64 alone.'
}

# One line that changes whenever a file of this folder does.
recipe_line() {
  local digest
  digest=$(cd "$here" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
  printf 'recipe %s\n' "${digest%% *}"
}

# Whether the folder $1 holds an image made by the recipe $2, of whichever packages.
has_image() {
  [ -e "$1/base.raw" ] && grep -qxF "$2" "$1/base.stamp" 2>/dev/null
}

# Prints one of apt's package lists that is younger than the file $1, if there is any.
newer_lists() {
  local lists
  eval "$(apt-config shell lists Dir::State::lists/d)"
  find "$lists" -maxdepth 1 -newer "$1" -print -quit
}

main() {
  [ $# -eq 1 ] || stop 'usage: build.sh OUT_DIR'
  mkdir -p "$1"
  local out recipe packages stamp asked
  out=$(cd "$1" && pwd)
  recipe=$(recipe_line)

  # Two builders in one folder would take each other's work for the leavings of a killed one.
  exec 9>"$out/lock"
  flock 9

  # Asking apt takes a second or two, and its answer cannot have changed while its lists have not.
  if has_image "$out" "$recipe" && [ -z "$(newer_lists "$out/base.stamp")" ]; then
    printf '%s\n' "$out/base.raw"
    return
  fi

  asked=$(date +%s)
  # Without package lists (offline, a fresh container) the newest kernel is unknown: what we have is good enough.
  if ! packages=$(choose_packages); then
    has_image "$out" "$recipe" || stop 'apt knows no kernel package. Run apt-get update first.'
    printf '%s\n' "$out/base.raw"
    return
  fi
  stamp=$(printf '%s\n%s' "$recipe" "$packages")
  if [ -e "$out/base.raw" ] && [ "$(cat "$out/base.stamp" 2>/dev/null)" = "$stamp" ]; then
    touch -d "@$asked" "$out/base.stamp"
    printf '%s\n' "$out/base.raw"
    return
  fi

  require_tools
  rm -rf "$out"/build.*
  work=$(mktemp -d "$out/build.XXXXXX")
  trap 'rm -rf "$work"' EXIT

  fetch_packages "$out/packages" "$packages"
  make_trees "$out/packages" "$work"
  make_disk "$work"

  # The stamp vouches for the image: gone before the image changes, back once the new one is in place.
  printf '%s\n' "$stamp" >"$work/base.stamp"
  touch -d "@$asked" "$work/base.stamp"
  rm -f "$out/base.stamp"
  mv "$work/base.raw" "$out/base.raw"
  mv "$work/base.stamp" "$out/base.stamp"
  say "done: $(du -m "$out/base.raw" | cut -f1) MiB of data in a disk of $((disk_mib / 1024)) GiB"
  printf '%s\n' "$out/base.raw"
}

main "$@"
