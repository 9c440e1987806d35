# shellcheck shell=bash
# The disk: partition table, boot loader, file systems. Sourced by build.sh.
#
# 0 MiB  master boot record, with syslinux's code that starts the active partition
# 1 MiB  FAT: syslinux, kernel, initramfs
# 65 MiB ext4: the guest's root, to the end

disk_mib=4096
boot_start_mib=1
boot_mib=64
root_start_mib=$((boot_start_mib + boot_mib))
root_mib=$((disk_mib - root_start_mib))
sectors_per_mib=2048

disk_id=0ca10761
boot_id=0ca10762
root_uuid=0ca10763-0000-4000-8000-000000000001
root_hash_seed=0ca10763-0000-4000-8000-000000000002
mbr_code=/usr/lib/syslinux/mbr/mbr.bin

# Makes $1/base.raw of what make_trees left in the folder $1.
make_disk() {
  local work=$1 disk=$1/disk.raw
  say 'writing the disk'
  truncate -s "${disk_mib}M" "$disk"
  sfdisk --quiet "$disk" <<TABLE
label: dos
label-id: 0x$disk_id
start=$((boot_start_mib * sectors_per_mib)), size=$((boot_mib * sectors_per_mib)), type=e, bootable
start=$((root_start_mib * sectors_per_mib)), size=$((root_mib * sectors_per_mib)), type=83
TABLE
  # The code ends before the disk id and the partition table, which stay.
  dd if="$mbr_code" of="$disk" bs=440 count=1 conv=notrunc status=none
  write_boot "$work" "$disk"
  write_root "$work" "$disk"
  # Leaves out what is zero: mke2fs keeps room on the host for the journal and for all inode tables.
  cp --sparse=always "$disk" "$work/base.raw"
}

write_boot() {
  local work=$1 disk=$2 partition="$2@@${boot_start_mib}M"
  export MTOOLSRC=/dev/null MTOOLS_SKIP_CHECK=1
  sed "s/@ROOT_UUID@/$root_uuid/" "$here/boot/syslinux.cfg" >"$work/syslinux.cfg"
  touch -d "@$SOURCE_DATE_EPOCH" "$work/syslinux.cfg" "$work/vmlinuz" "$work/initrd"
  mformat -i "$partition" -T $((boot_mib * sectors_per_mib)) -h 255 -s 63 \
    -H $((boot_start_mib * sectors_per_mib)) -N "$boot_id" -v CALOTYPE ::
  syslinux --install --offset $((boot_start_mib << 20)) "$disk"
  mcopy -m -i "$partition" "$work/syslinux.cfg" "$work/vmlinuz" "$work/initrd" ::
}

write_root() {
  local work=$1 disk=$2 offset=$((root_start_mib << 20))
  # The features are our own, because the distribution's change with its age; a guest that finds every inode table
  # written does not write them itself behind our back.
  MKE2FS_CONFIG="$here/mke2fs.conf" E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -F -t ext4 -L calotype-root \
    -U "$root_uuid" -E "offset=$offset,hash_seed=$root_hash_seed,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0" \
    -d "$work/root" "$disk" "${root_mib}M"
  own_root "$work/root" >"$work/own.debugfs"
  E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH debugfs -w -f "$work/own.debugfs" "$disk?offset=$offset" >"$work/own.log" 2>&1
  # debugfs ends well whatever happened to its commands; only the commands themselves may be in its log.
  if grep -v -e '^debugfs' "$work/own.log" >&2; then stop 'the owners of the files could not be set.'; fi
  E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH e2fsck -fn "$disk?offset=$offset" >"$work/check.log" 2>&1 ||
    stop "the new file system is not sound: $(cat "$work/check.log")"
}

# Prints debugfs commands that give all files of the tree $1 to the guest's users: mke2fs gave them to whoever runs
# this. Times that cannot be chosen on our own disk (change, birth) are set on the way.
own_root() {
  (cd "$1" && find . -mindepth 0) | sort | awk -v epoch="$SOURCE_DATE_EPOCH" '{
    path = substr($0, 2); if (path == "") path = "/"
    owner = (path ~ /^\/home\/demo/) ? 1000 : 0
    printf "sif \"%s\" uid %d\nsif \"%s\" gid %d\n", path, owner, path, owner
    split("atime ctime crtime", times, " ")
    for (i in times) printf "sif \"%s\" %s @%d\n", path, times[i], epoch
  }'
}
