/** CRC-32C (Castagnoli), as VHDX keeps over its headers and region tables. Source: RFC 3720, appendix B.4. */

const TABLE = new Uint32Array(256)
for (let byte = 0; byte < 256; byte++) {
  let remainder = byte
  for (let bit = 0; bit < 8; bit++) {
    remainder = (remainder & 1) === 1 ? (remainder >>> 1) ^ 0x82f63b78 : remainder >>> 1
  }
  TABLE[byte] = remainder >>> 0
}

/** Over `bytes`, with the four from `at` on, where the checksum itself is, taken for zero. */
export function vhdxChecksum(bytes: Buffer, at: number): number {
  let crc = 0xffffffff
  for (let index = 0; index < bytes.length; index++) {
    const byte = index >= at && index < at + 4 ? 0 : (bytes[index] ?? 0)
    crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 0xff] ?? 0)
  }
  return (crc ^ 0xffffffff) >>> 0
}
