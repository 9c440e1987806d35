# shellcheck shell=bash
# The guest's kernel, its root and its disk. Sourced by build.sh.

# Perl's base, in which the writers are written, is part of every Debian.
guest_packages=(systemd-sysv systemd dbus udev kmod login mount util-linux e2fsprogs qemu-guest-agent openssh-server)

# Started for nothing here, and each costs an emulated guest its time.
masked_units=(
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
  systemd-tmpfiles-clean.timer systemd-update-utmp.service systemd-update-utmp-runlevel.service
  systemd-random-seed.service systemd-pstore.service systemd-journal-flush.service systemd-binfmt.service
  systemd-firstboot.service systemd-sysusers.service
  systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-update-done.service
  modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service
  modprobe@fuse.service modprobe@loop.service sys-kernel-config.mount sys-kernel-debug.mount
  sys-kernel-tracing.mount sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount
  proc-sys-fs-binfmt_misc.automount getty@tty1.service remote-fs.target ssh.service ssh.socket
)

# The kernel is unpacked, never installed: nobody in the guest builds an initramfs. Leaves vmlinuz, initrd and the
# kernel's modules in $1.
make_kernel() {
  local work=$1 image release line name
  image=$(dependency_of linux-image-cloud-amd64 'linux-image-.*-cloud-amd64') ||
    stop 'apt knows no kernel package. Run apt-get update first.'
  line=$(apt-cache policy "$image" busybox-static | awk '
    /^[^ ]/ { name = $1; sub(/:$/, "", name) }
    $1 == "Candidate:" { print name "=" $2 }')
  fetch_packages "$work/packages" "$line"
  mkdir "$work/kernel"
  for name in "$work"/packages/*.deb; do dpkg-deb -x "$name" "$work/kernel"; done
  merge_usr "$work/kernel"
  release=${image#linux-image-}
  cp "$work/kernel/boot/vmlinuz-$release" "$work/vmlinuz"
  find "$work/kernel/lib/modules" -name '*.ko.xz' -exec xz -dq {} +
  "$work/kernel/bin/busybox" depmod -b "$work/kernel" "$release"
  make_initramfs "$work/kernel/lib/modules/$release" "$work/kernel/bin/busybox" "$work"
}

# Leaves $1/root.tar: the packages as Debian's own tools install them, from the mirrors that apt has here, and the
# kernel's modules with the binary index in which the guest's udev looks drivers up; busybox's depmod makes none.
make_root_archive() {
  local work=$1 suite
  suite=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
  say "installing Debian $suite"
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
    sed 's#^#deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] #' >"$work/sources.list"
  [ -s "$work/sources.list" ] || stop 'apt knows none of the mirrors of Debian. Run apt-get update first.'
  mmdebstrap --quiet --variant=essential --format=tar \
    --include="$(IFS=,; printf '%s' "${guest_packages[*]}")" \
    --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/i18n/*' \
    --customize-hook="copy-in '$work/kernel/lib/modules' /usr/lib" \
    --customize-hook="chroot \"\$1\" depmod '$(basename "$work"/kernel/lib/modules/*)'" \
    "$suite" "$work/root.tar" - <"$work/sources.list" >&2 || stop 'mmdebstrap failed; what it said is above.'
}

# Makes $1/guest.raw of what the two above left. The files of the root keep their owners: where that takes root,
# fakeroot remembers them.
make_guest_disk() {
  local work=$1
  local -a as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(fakeroot)
  say 'writing the disk'
  truncate -s "${disk_mib}M" "$work/disk.raw"
  sfdisk --quiet "$work/disk.raw" <<TABLE
label: dos
label-id: 0x$disk_id
start=$((boot_start_mib * sectors_per_mib)), size=$((boot_mib * sectors_per_mib)), type=e, bootable
start=$((root_start_mib * sectors_per_mib)), size=$((root_mib * sectors_per_mib)), type=83
TABLE
  dd if="$mbr_code" of="$work/disk.raw" bs=440 count=1 conv=notrunc status=none
  write_boot "$work" "$work/disk.raw"
  export work guest here root_uuid root_hash_seed root_mib root_start_mib
  "${as_root[@]}" bash -euo pipefail -c '. "$guest/root.sh"; furnish_guest; write_guest_root'
  e2fsck -fn "$work/disk.raw?offset=$((root_start_mib << 20))" >"$work/check.log" 2>&1 ||
    stop "the new file system is not sound: $(cat "$work/check.log")"
  # Leaves out what is zero: mke2fs keeps room on the host for the journal and for all inode tables.
  cp --sparse=always "$work/disk.raw" "$work/guest.raw"
}

furnish_guest() {
  local root=$work/root unit
  mkdir "$root"
  tar -x -f "$work/root.tar" -C "$root" --exclude='./dev/*'
  cp -R "$guest/files/." "$root/"
  chmod 755 "$root"/usr/local/sbin/*
  for unit in "${masked_units[@]}"; do ln -sfn /dev/null "$root/etc/systemd/system/$unit"; done
  mkdir -p "$root/data" "$root/var/lib/writer" "$root/etc/systemd/system/multi-user.target.wants"
  ln -sfn ../data-disk.service "$root/etc/systemd/system/multi-user.target.wants/data-disk.service"
  ln -sfn /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
  # A machine id that is there spares each start what systemd does at a first one.
  echo 0ca10764000040008000000000000001 >"$root/etc/machine-id"
  echo calotype-debian >"$root/etc/hostname"
  printf 'UUID=%s / ext4 rw,noatime 0 0\n' "$root_uuid" >"$root/etc/fstab"
  sed -i 's#^root:[^:]*:\(.*\):[^:]*$#root::\1:/bin/sh#' "$root/etc/passwd"
  # Somebody whose files a cleaning takes away, and who can log in afterwards all the same.
  echo anna:x:1000:1000::/home/anna:/bin/sh >>"$root/etc/passwd"
  echo 'anna:!:20000:0:99999:7:::' >>"$root/etc/shadow"
  echo anna:x:1000: >>"$root/etc/group"
  mkdir -p "$root/home/anna"
  chmod 700 "$root/home/anna"
  chown 1000:1000 "$root/home/anna"
  rm -rf "$root"/var/cache/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root/etc/apt/sources.list"
}

write_guest_root() {
  MKE2FS_CONFIG="$here/mke2fs.conf" E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -F -t ext4 -L guest-root \
    -U "$root_uuid" -d "$work/root" \
    -E "offset=$((root_start_mib << 20)),hash_seed=$root_hash_seed,lazy_itable_init=0,lazy_journal_init=0" \
    "$work/disk.raw" "${root_mib}M"
}
