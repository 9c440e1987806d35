/** What the trial guest says on its serial port once it has done its work. */
export const TRIAL_MARKER = 'guest ran'

/** How QEMU ends when the guest writes 1 to `isa-debug-exit`, which doubles it and adds 1; 1 is QEMU's own failure. */
export const TRIAL_EXIT_CODE = 3

/**
 * A guest that does at once what every operating system does first: leaves real mode, switches paging on, and fills and
 * checks 4 MiB of memory. Hosts whose KVM is broken often run firmware and fail exactly here. It then says
 * TRIAL_MARKER on 0x3f8 and ends through QEMU's `isa-debug-exit` at 0xf4, also when the memory is wrong. The listing is GNU as, AT&T syntax, at 0x7c00.
 */
const LISTING = [
  'fa', // cli
  '31 c0', // xor %ax,%ax
  '8e d8', // mov %ax,%ds
  'e4 92', // in $0x92,%al
  '0c 02', // or $0x2,%al
  'e6 92', // out %al,$0x92
  '66 0f 01 16 d0 7c', // lgdtl gdtr
  '0f 20 c0', // mov %cr0,%eax
  '0c 01', // or $0x1,%al
  '0f 22 c0', // mov %eax,%cr0
  '66 ea 21 7c 00 00 08 00', // ljmpl $0x8,$prot
  '66 b8 10 00', // prot: mov $0x10,%ax
  '8e d8', // mov %eax,%ds
  '8e c0', // mov %eax,%es
  '8e d0', // mov %eax,%ss
  'bc 00 70 00 00', // mov $0x7000,%esp
  'bf 00 00 10 00', // mov $0x100000,%edi
  'b8 87 00 00 00', // mov $0x87,%eax
  'b9 00 04 00 00', // mov $0x400,%ecx
  '89 07', // mov %eax,(%edi)
  '83 c7 04', // add $0x4,%edi
  '05 00 00 40 00', // add $0x400000,%eax
  'e2 f4', // loop 0x7c3f
  '0f 20 e0', // mov %cr4,%eax
  '0c 10', // or $0x10,%al
  '0f 22 e0', // mov %eax,%cr4
  'b8 00 00 10 00', // mov $0x100000,%eax
  '0f 22 d8', // mov %eax,%cr3
  '0f 20 c0', // mov %cr0,%eax
  '0d 00 00 00 80', // or $0x80000000,%eax
  '0f 22 c0', // mov %eax,%cr0
  'bf 00 00 20 00', // mov $0x200000,%edi
  'b9 00 00 10 00', // mov $0x100000,%ecx
  '31 c0', // xor %eax,%eax
  '89 07', // mov %eax,(%edi)
  '05 b9 79 37 9e', // add $0x9e3779b9,%eax
  '83 c7 04', // add $0x4,%edi
  'e2 f4', // loop 0x7c72
  'be 00 00 20 00', // mov $0x200000,%esi
  'b9 00 00 10 00', // mov $0x100000,%ecx
  '31 c0', // xor %eax,%eax
  '39 06', // cmp %eax,(%esi)
  '75 1b', // jne stop
  '05 b9 79 37 9e', // add $0x9e3779b9,%eax
  '83 c6 04', // add $0x4,%esi
  'e2 f2', // loop 0x7c8a
  'be d6 7c 00 00', // mov $text,%esi
  '66 ba f8 03', // mov $0x3f8,%dx
  'ac', // lods %ds:(%esi),%al
  '84 c0', // test %al,%al
  '74 03', // je stop
  'ee', // out %al,(%dx)
  'eb f8', // jmp 0x7ca1
  '66 ba f4 00', // stop: mov $0xf4,%dx
  'b0 01', // mov $0x1,%al
  'ee', // out %al,(%dx)
  'f4', // hlt
  'eb fd', // jmp 0x7cb0
  '00 00 00 00 00', // filling
  // gdt: nothing, flat code, flat data; gdtr
  '00 00 00 00 00 00 00 00 ff ff 00 00 00 9a cf 00',
  'ff ff 00 00 00 92 cf 00 17 00 b8 7c 00 00',
  // text: 'guest ran', line end, 0
  '67 75 65 73 74 20 72 61 6e 0a 00',
]

/** A disk of 1 MiB (firmware reads none of a single sector) whose boot sector is the trial guest. */
export function trialDisk(): Buffer {
  const disk = Buffer.alloc(1 << 20)
  Buffer.from(LISTING.join('').replaceAll(' ', ''), 'hex').copy(disk)
  disk.writeUInt16LE(0xaa55, 510)
  return disk
}
