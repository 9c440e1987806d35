# shellcheck shell=bash
# Which packages the image is made of, and how they get here. Sourced by build.sh.
#
# The packages are downloaded and unpacked, never installed: that needs no root and leaves this machine as it was.

# The first dependency of package $1 that matches the pattern $2; fails when there is none.
dependency_of() {
  local found
  found=$(apt-cache depends "$1" 2>/dev/null | sed -n "s/^ *Depends: \($2\)$/\1/p")
  [ -n "$found" ] && printf '%s\n' "${found%%$'\n'*}"
}

# Prints one line NAME=VERSION for each package of the image; fails when apt knows none of the kernels.
# The kernel's headers are there for their bulk: some 10 000 real files, so that captures have something to do.
choose_packages() {
  local image release names
  if image=$(dependency_of linux-image-cloud-amd64 'linux-image-.*-cloud-amd64'); then # Debian
    release=${image#linux-image-}
    names=("$image" "linux-headers-${release%-cloud-amd64}-common")
  elif image=$(dependency_of linux-image-virtual 'linux-image-.*-generic'); then # Ubuntu
    release=${image#linux-image-}
    names=("$image" "linux-modules-$release" "linux-headers-${release%-generic}")
  else
    return 1
  fi
  names+=(busybox-static)
  apt-cache policy "${names[@]}" | awk -v wanted=${#names[@]} '
    /^[^ ]/ { name = $1; sub(/:$/, "", name) }
    $1 == "Candidate:" && $2 != "(none)" { print name "=" $2; found++ }
    END { exit found != wanted }'
}

# Downloads the packages $2 (lines of choose_packages) into the folder $1 and removes every other one from it.
# apt checks the digest of a file that is there already and leaves it, so that only changed packages are fetched.
fetch_packages() {
  local folder=$1 packages=$2 before
  mkdir -p "$folder"
  say "fetching $(tr '\n' ' ' <<<"$packages")"
  before=$(mktemp "$work/before.XXXXXX")
  (
    cd "$folder"
    local line name version
    while IFS='=' read -r name version; do
      # apt writes the colon of an epoch as %3a in file names.
      find . -maxdepth 1 -name "${name}_${version//:/%3a}_*.deb"
    done <<<"$packages" | sort >"$before"
    find . -maxdepth 1 -name '*.deb' | sort | comm -23 - "$before" | xargs -r rm -f
    mapfile -t line <<<"$packages"
    # As root, apt would drop to a user that may not write here.
    apt-get -qq -o APT::Sandbox::User="$(id -un)" download "${line[@]}" >&2
  ) || stop 'the download failed. If a package was not found, run apt-get update and try again.'
}
