/** Four tables, so that four bytes are taken at a time: table n carries a byte over n more zero bytes. */
function makeTables(polynomial: number): Uint32Array {
  const tables = new Uint32Array(1024)
  for (let byte = 0; byte < 256; byte++) {
    let value = byte
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ polynomial : value >>> 1
    tables[byte] = value
  }
  for (let index = 256; index < 1024; index++) {
    const before = tables[index - 256] as number
    tables[index] = (before >>> 8) ^ (tables[before & 255] as number)
  }
  return tables
}

const CRC32C = makeTables(0x82f63b78)
const CRC16 = makeTables(0xa001)

/** CRC-32C without the inversion at either end, as ext4 chains it: start with 0xffffffff, go on with what came out. */
export function crc32c(seed: number, bytes: Uint8Array, start = 0, end = bytes.length): number {
  let crc = seed
  let at = start
  for (; at + 4 <= end; at += 4) {
    crc ^=
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)
    crc =
      (CRC32C[768 + (crc & 255)] as number) ^
      (CRC32C[512 + ((crc >>> 8) & 255)] as number) ^
      (CRC32C[256 + ((crc >>> 16) & 255)] as number) ^
      (CRC32C[crc >>> 24] as number)
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ (CRC32C[(crc ^ (bytes[at] as number)) & 255] as number)
  return crc >>> 0
}

/** The same over the four bytes of a little-endian number. */
export function crc32cWord(seed: number, word: number): number {
  let crc = seed
  for (let shift = 0; shift < 32; shift += 8) {
    crc = (crc >>> 8) ^ (CRC32C[(crc ^ (word >>> shift)) & 255] as number)
  }
  return crc >>> 0
}

/** CRC-16 (0x8005, reflected), by which older volumes guard their group descriptors. */
export function crc16(seed: number, bytes: Uint8Array): number {
  let crc = seed
  for (const byte of bytes) crc = (crc >>> 8) ^ (CRC16[(crc ^ byte) & 255] as number)
  return crc & 0xffff
}
