# shellcheck shell=bash
# The files of the image: the guest's root, the initramfs, the kernel. Sourced by build.sh.

# What the guest needs to find its root and to hear its power button, whether built in or a module.
kernel_modules=(virtio_pci virtio_blk virtio_scsi sd_mod ext4 virtio_rng evdev button)
initramfs_applets=(sh mount insmod findfs usleep switch_root)

# Unpacks the packages of folder $1 and leaves in folder $2: root/, vmlinuz, initrd.
make_trees() {
  local packages=$1 work=$2 root=$2/root package release
  say 'unpacking'
  mkdir "$root"
  for package in "$packages"/*.deb; do dpkg-deb -x "$package" "$root"; done
  merge_usr "$root"
  release=$(basename "$root"/lib/modules/*)
  cp "$root/boot/vmlinuz-$release" "$work/vmlinuz"

  # The guest's and the initramfs's insmod take plain modules alone.
  find "$root/lib/modules" -name '*.ko.xz' -exec xz -dq {} +
  find "$root/lib/modules" -name '*.ko.zst' -exec zstd -dq --rm {} +
  "$root/bin/busybox" depmod -b "$root" "$release"
  # It writes the lines in the order in which the host's file system happens to list the modules.
  local index
  for index in "$root/lib/modules/$release"/modules.{alias,dep,symbols}; do sort -o "$index" "$index"; done

  say "making the guest's root and its initramfs"
  furnish_root "$root"
  make_initramfs "$root/lib/modules/$release" "$root/bin/busybox" "$work"
}

# Newer distributions ship /bin and /lib inside /usr; the guest has them at the top.
merge_usr() {
  local root=$1
  mkdir -p "$root"/{bin,lib}
  [ ! -d "$root/usr/lib/modules" ] || mv "$root/usr/lib/modules" "$root/lib/modules"
  [ ! -e "$root/usr/bin/busybox" ] || mv "$root/usr/bin/busybox" "$root/bin/busybox"
}

furnish_root() {
  local root=$1 applet
  mkdir -p "$root"/{dev,etc,home/demo,boot/loader,mnt,proc,root,run,sbin,sys,tmp,usr/bin,usr/sbin,var/log}
  ln -s ../run "$root/var/run"
  chmod 700 "$root/root"
  chmod 1777 "$root/tmp"
  cp -R "$here/guest/." "$root/"
  chmod 755 "$root"/etc/init.d/* "$root"/etc/acpi/PWRF/*
  chmod 600 "$root/etc/shadow"
  "$root/bin/busybox" --list-full | while read -r applet; do
    [ -e "$root/$applet" ] || [ -L "$root/$applet" ] || ln -s /bin/busybox "$root/$applet"
  done
  # Nothing is younger than the image: the same packages make the same bytes, whenever they are unpacked.
  find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

# Prints the files that must be loaded for the kernel's modules in folder $1, each after those it needs.
module_order() {
  local folder=$1 name pattern line
  for name in "${kernel_modules[@]}"; do
    # Files are spelled with either dash, whatever the module calls itself.
    pattern=${name//_/[-_]}
    if line=$(grep -E "^[^:]*/$pattern\.ko:" "$folder/modules.dep"); then
      # Busybox and kmod both list what a module needs from the nearest to the farthest.
      tr -s ' ' '\n' <<<"${line/:/ }" | grep . | tac
    elif ! grep -qE "/$pattern\.ko" "$folder/modules.builtin"; then
      stop "this kernel has no $name."
    fi
  done | awk '!seen[$0]++'
}

make_initramfs() {
  local modules=$1 busybox=$2 work=$3 tree=$3/initramfs order file applet
  mkdir -p "$tree"/{bin,dev,proc,root,modules}
  cp "$busybox" "$tree/bin/busybox"
  for applet in "${initramfs_applets[@]}"; do ln -s busybox "$tree/bin/$applet"; done
  install -m 755 "$here/boot/init" "$tree/init"
  order=$(module_order "$modules")
  for file in $order; do
    cp "$modules/$file" "$tree/modules/"
    basename "$file"
  done >"$tree/modules/order"
  find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  # Not compressed: in an emulated guest, unpacking takes as long as reading the 2 MiB that it saves.
  (cd "$tree" && find . | sort | cpio --quiet -o -H newc -R 0:0 --reproducible) >"$work/initrd"
}
