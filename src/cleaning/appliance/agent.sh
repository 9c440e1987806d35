#!/bin/busybox sh
# busybox's shell is dash with `read -d`; `take` assigns what its callers name.
# shellcheck shell=dash disable=SC3045,SC2154
# The first and only process of the appliance's guest. It checks ext4 file systems, then changes files on them as the host
# orders, and ends when the host hangs up. start.ts holds the other end; words.ts knows the words, orders.ts the orders.
#
# Orders are data: names come between zero bytes, are walked one by one and used as arguments alone, never as words of a
# command. What the tools say may hold names; it goes to the console, which stays in the folder of the run.

PATH=/bin
LC_ALL=C
export PATH LC_ALL
umask 022
set -o pipefail

# --- words to the host, one line each ---

say() { echo "$*" >&3; }

stop() {
  /bin/busybox poweroff -f
  # The host or the power-off ends it; the first process must not end before.
  while :; do sleep 1; done
}

# fail REASON: the order under way was not carried out. Whatever it looks like, a disk that fails is the reason: what cannot be
# read seems gone, and what cannot be written seems odd.
fail() {
  if has_io_error; then say "failed $order io"; else say "failed $order $1"; fi
  stop
}

# The kernel could not read or write a disk. Without `grep -q`: it would end before `dmesg` has said all.
has_io_error() { dmesg | grep 'I/O error, dev' > /dev/null; }

# Why a command failed, by what it said.
fail_by_errors() {
  if grep -q 'No space left on device\|Disk quota exceeded' /tmp/errors; then fail full; fi
  head -c 1000 /tmp/errors > /dev/console
  fail odd
}

# --- volumes ---

# device_of NUMBER: each volume is a disk of its own, with its number in the serial.
device_of() {
  local serial
  for serial in /sys/class/block/vd*/serial; do
    if [ "$(cat "$serial")" = "volume$1" ]; then
      serial=${serial%/serial}
      echo "/dev/${serial##*/}"
      return 0
    fi
  done
  return 1
}

# mend NUMBER: answers as e2fsck does.
mend() {
  e2fsck -f -p -E nodiscard "$(device_of "$1")" < /dev/null 2>&1 | tail -c 2000 > /dev/console
}

# check NUMBER: answers as e2fsck does, with 64 for a disk that fails.
check() {
  local code=0
  mend "$1" || code=$?
  # What was mended changes what is counted, quotas above all: the counts are mended by another run.
  if [ $code -ne 0 ] && [ $((code & ~3)) -eq 0 ]; then
    code=0
    mend "$1" || code=$?
  fi
  if has_io_error; then code=64; fi
  return $code
}

enter() {
  place=/volumes/$volume
  mkdir -p "$place"
  mount -t ext4 -o rw,nosuid,nodev,noexec,noatime,nodiscard,errors=remount-ro,barrier=1 \
    "$(device_of "$volume")" "$place" 2> /tmp/errors || fail_by_errors
}

leave() {
  [ -n "$volume" ] || return 0
  local code=0
  settle
  cd /
  sync
  umount "$place" 2> /tmp/errors || fail_by_errors
  check "$volume" || code=$?
  if [ $code -eq 64 ]; then fail io; fi
  if [ $((code & ~3)) -ne 0 ]; then fail unclean; fi
}

# --- orders ---

# take NAME: the next field.
take() { IFS= read -r -d '' "$1" || fail cut; }

# Goes to the folder of an order's path, by real folders only, and leaves the last name in `name` and all of it, from the
# volume's root, in `path`. With the word `make` folders that are missing are made.
walk() {
  local depth
  take depth
  cd "$place" || fail odd
  take name
  path=./$name
  while [ "$depth" -gt 1 ]; do
    if [ "${1:-}" = make ] && ! is_there; then attempt make_folder; fi
    { is_folder && cd -P "./$name"; } || fail gone
    take name
    path=$path/$name
    depth=$((depth - 1))
  done
}

is_there() { [ -L "./$name" ] || [ -e "./$name" ]; }
is_folder() { [ ! -L "./$name" ] && [ -d "./$name" ]; }
is_file() { [ ! -L "./$name" ] && [ -f "./$name" ]; }

# `chattr` can forbid a change even to root. Folders and files that stay get their marks back.
flags_of() { lsattr -d "$1" 2> /dev/null | head -n 1 | cut -d ' ' -f 1 | tr -cd ia; }

# attempt ACTION: carries it out, if need be without the marks.
attempt() {
  local folder_flags own_flags
  "$1" 2> /tmp/errors && return 0
  folder_flags=$(flags_of .)
  own_flags=$(flags_of "./$name")
  chattr -i -a . 2> /dev/null
  case $1 in
    remove) chattr -R -f -i -a "./$name" 2> /dev/null ;;
    *) chattr -f -i -a "./$name" 2> /dev/null ;;
  esac
  "$1" 2> /tmp/errors || fail_by_errors
  if [ -n "$own_flags" ] && is_there; then restore "./$name" "$own_flags"; fi
  if [ -n "$folder_flags" ]; then restore . "$folder_flags"; fi
}

# restore PATH MARKS
restore() {
  chattr "+$2" "$1" 2> /tmp/errors || fail_by_errors
}

make_folder() { mkdir -m 0755 "./$name" && chown 0:0 "./$name"; }

# What is to go is collected and goes at once, as each start of a program takes long here. No two orders concern the same
# path, so nothing happens to it meanwhile. The `rm` is the host's own: it goes down step by step, however long a path gets.
settle() {
  [ -s /tmp/going ] || [ -s /tmp/emptied ] || return 0
  cd "$place" || fail odd
  xargs -0 -r sh -c 'exec find "$@" -mindepth 1 -maxdepth 1 -print0' sh < /tmp/emptied >> /tmp/going 2> /tmp/errors ||
    fail_by_errors
  if ! xargs -0 -r /bin/rm -rf -- < /tmp/going 2> /tmp/errors; then remove_marked < /tmp/going; fi
  true > /tmp/emptied
  true > /tmp/going
}

# Something did not go. One by one, then, without the marks.
remove_marked() {
  while IFS= read -r -d '' path; do
    name=${path##*/}
    cd -P "$place/${path%/*}" || fail odd
    if is_there; then attempt remove; fi
  done
}

remove() { /bin/rm -rf -- "./$name"; }

empty_file() { true > "./$name"; }

# What is there as a plain file is written in place: its label for SELinux stays.
write() {
  if ! is_file || [ "$(stat -c %h "./$name")" != 1 ]; then /bin/rm -f -- "./$name" || return 1; fi
  printf '%s' "$content" | cat > "./$name" && chown 0:0 "./$name" && chmod "$mode" "./$name"
}

link() { /bin/rm -f -- "./$name" && ln -s -- "$target" "./$name" && chown -h 0:0 "./$name"; }

carry_out() {
  local kind
  order=0
  volume=
  true > /tmp/emptied
  true > /tmp/going
  while take kind; do
    case $kind in
      volume)
        leave
        take volume
        say "at $volume"
        enter
        continue
        ;;
      end)
        leave
        return
        ;;
      remove)
        walk
        is_there || fail gone
        printf '%s\0' "$path" >> /tmp/going
        ;;
      empty)
        walk
        if is_folder; then
          printf '%s\0' "$path" >> /tmp/emptied
        else
          is_file || fail gone
          attempt empty_file
        fi
        ;;
      write)
        settle
        take mode
        take content
        walk make
        attempt write
        ;;
      link)
        settle
        take target
        walk make
        attempt link
        ;;
      *) fail cut ;;
    esac
    order=$((order + 1))
  done
}

# --- the run ---

/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox --install -s /bin 2> /dev/null
for module in /modules/*.ko; do insmod "$module"; done

# find_port: the port appears a little after its driver, and later on a busy host.
find_port() {
  local port
  for port in /sys/class/virtio-ports/*; do
    if [ "$(cat "$port/name" 2> /dev/null)" = words ]; then
      echo "/dev/${port##*/}"
      return 0
    fi
  done
  return 1
}

order=0
until port=$(find_port) && [ -e "$port" ]; do usleep 20000; done
exec 3<> "$port" < /dev/null

say up
{ read -r word count <&3 && [ "$word" = check ]; } || stop
number=0
# Disks appear as they like too.
while [ "$number" -lt "$count" ]; do
  until device_of "$number" > /dev/null; do usleep 20000; done
  number=$((number + 1))
done
number=0
while [ "$number" -lt "$count" ]; do
  code=0
  check "$number" || code=$?
  say "checked $number $code"
  number=$((number + 1))
done
sync
say ready

{ read -r word length <&3 && [ "$word" = apply ]; } || stop
head -c "$length" <&3 > /tmp/orders
carry_out < /tmp/orders
sync
say 'done'
# Nothing is mounted. The host hangs up.
read -r word <&3
stop
