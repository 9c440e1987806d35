/** Where a command in the new root finds its folder. */
export const OWN_FOLDER = '/own'

/**
 * A shell's script: gives the command behind its first argument a root that holds nothing but the system's programs and
 * libraries, and as OWN_FOLDER the folder that the first argument names, if any, which is also where the command starts. It
 * has to be in a namespace of mounts of its own, with the right to mount; that namespace ends with the command.
 *
 * The new root is built over /sys, which holds nobody's folder. The host's root is let go of, and not only hidden: there
 * is no way back to it. /proc is lent to umount, which cannot do without it. Ends with 125 where any of it fails.
 * Source: pivot_root(2), umount(8).
 */
export const ROOT_SCRIPT = `
PATH="$PATH:/usr/sbin:/sbin"
build() {
  mount -t tmpfs -o mode=0755,size=1m,nosuid,nodev none /sys || return 1
  for name in usr bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then cp -P "/$name" "/sys/$name" || return 1
    elif [ -d "/$name" ]; then mkdir "/sys/$name" && mount --rbind "/$name" "/sys/$name" || return 1
    fi
  done
  mkdir /sys${OWN_FOLDER} /sys/host /sys/proc && mount --rbind /proc /sys/proc || return 1
  if [ -n "$1" ]; then mount --bind "$1" /sys${OWN_FOLDER} || return 1; fi
  cd /sys && pivot_root . host && cd ${OWN_FOLDER} || return 1
  umount -l /host && umount -l /proc && rmdir /host /proc && mount -t tmpfs -o ro,remount none /
}
own=$1
shift
build "$own" || exit 125
exec "$@"
`
