/**
 * The smallest guest that the suite can talk to: a boot sector that says 'up' on its serial port and then obeys
 * `w<disk><sector><character>`: fill that sector with the character · `r<disk><sector>`: say the sector's first byte ·
 * `q`: power off. Disk is a digit; sector is a character whose code is the sector's number. Answers end in ' ok' or
 * ' no'. It listens to the ACPI power button too. The listing is GNU as, AT&T syntax, 16 bit, at 0x7c00.
 */
const LISTING = [
  '31 c0', // xor %ax,%ax
  '8e d8', // mov %ax,%ds
  '8e c0', // mov %ax,%es
  '8e d0', // mov %ax,%ss
  'bc 00 7c', // mov $0x7c00,%sp
  'fb', // sti
  'fc', // cld
  'ba 02 06', // mov $0x602,%dx
  'b8 00 01', // mov $0x100,%ax
  'ef', // out %ax,(%dx)
  'be ca 7c', // mov $up,%si
  'e8 8f 00', // call puts
  'ba 00 06', // idle: mov $0x600,%dx
  'ed', // in (%dx),%ax
  'f6 c4 01', // test $0x1,%ah
  '75 1f', // jne off
  'ba fd 03', // mov $0x3fd,%dx
  'ec', // in (%dx),%al
  'a8 01', // test $0x1,%al
  '75 03', // jne key
  'f4', // hlt
  'eb ec', // jmp idle
  'e8 6b 00', // key: call getc
  '3c 71', // cmp $0x71,%al
  '74 0d', // je off
  '3c 77', // cmp $0x77,%al
  '74 12', // je write
  '3c 72', // cmp $0x72,%al
  '74 29', // je read
  'e8 74 00', // call putc
  'eb d8', // jmp idle
  'ba 04 06', // off: mov $0x604,%dx
  'b8 00 20', // mov $0x2000,%ax
  'ef', // out %ax,(%dx)
  'eb cf', // jmp idle
  'e8 35 00', // write: call place
  'e8 4b 00', // call getc
  'bf 00 10', // mov $0x1000,%di
  'b9 00 02', // mov $0x200,%cx
  'f3 aa', // rep stos %al,%es:(%di)
  'b8 00 43', // mov $0x4300,%ax
  'e8 33 00', // call disk
  '72 1a', // jb bad
  'be ce 7c', // mov $ok,%si
  'eb 18', // jmp say
  'e8 1a 00', // read: call place
  'b4 42', // mov $0x42,%ah
  'e8 24 00', // call disk
  '72 0b', // jb bad
  'a0 00 10', // mov 0x1000,%al
  'e8 3e 00', // call putc
  'be ce 7c', // mov $ok,%si
  'eb 03', // jmp say
  'be d3 7c', // bad: mov $no,%si
  'e8 28 00', // say: call puts
  'eb 97', // jmp idle
  'e8 16 00', // place: call getc
  '04 50', // add $0x50,%al
  'a2 b9 7c', // mov %al,drive
  'e8 0e 00', // call getc
  'a2 c2 7c', // mov %al,lba
  'c3', // ret
  '8a 16 b9 7c', // disk: mov drive,%dl
  'be ba 7c', // mov $dap,%si
  'cd 13', // int $0x13
  'c3', // ret
  'ba fd 03', // getc: mov $0x3fd,%dx
  'ec', // in (%dx),%al
  'a8 01', // test $0x1,%al
  '74 fb', // je 0x7c9f
  'ba f8 03', // mov $0x3f8,%dx
  'ec', // in (%dx),%al
  'c3', // ret
  'ac', // puts: lods %ds:(%si),%al
  '84 c0', // test %al,%al
  '74 05', // je 0x7cb3
  'e8 03 00', // call putc
  'eb f6', // jmp puts
  'c3', // ret
  'ba f8 03', // putc: mov $0x3f8,%dx
  'ee', // out %al,(%dx)
  'c3', // ret
  // drive; dap: one sector at 0x1000; lba
  '00 10 00 01 00 00 10 00 00 00 00 00 00 00 00 00',
  '00',
  // up: 'up'; ok: ' ok'; no: ' no'
  '75 70 0a 00 20 6f 6b 0a 00 20 6e 6f 0a 00',
]

/** A disk that boots the guest; the rest of it is zero. */
export function bootDisk(sizeBytes: number): Buffer {
  const disk = Buffer.alloc(sizeBytes)
  Buffer.from(LISTING.join('').replaceAll(' ', ''), 'hex').copy(disk)
  disk.writeUInt16LE(0xaa55, 510)
  return disk
}
