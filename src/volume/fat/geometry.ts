/** Where things lie in a FAT volume. Offsets and sizes in bytes from its start; clusters are numbered from 2. */
export interface FatGeometry {
  readonly bits: 12 | 16 | 32
  readonly sectorBytes: number
  readonly clusterBytes: number
  readonly clusterCount: number
  readonly tableOffset: number
  /** Of one copy of the table. */
  readonly tableBytes: number
  readonly tableCount: number
  /** The root directory of FAT12 and FAT16; of no length for FAT32. */
  readonly rootOffset: number
  readonly rootBytes: number
  /** Of FAT32; 0 else. */
  readonly rootCluster: number
  /** Of cluster 2. */
  readonly dataOffset: number
  readonly sizeBytes: number
  /** Of the sector that counts free clusters; 0 if there is none. */
  readonly infoOffset: number
  /** FAT32 can keep one copy of the table alone up to date. */
  readonly isMirrored: boolean
  readonly label: string
  readonly uuid: string
}

const FAT12_CLUSTERS_MAX = 4084
const FAT16_CLUSTERS_MAX = 65524
const FAT32_CLUSTERS_MAX = 0x0ffffff5

/** Reads a boot sector; undefined if its numbers are not those of a FAT volume. Source: Microsoft, FAT32 File System Specification 1.03. */
export function readFatGeometry(sector: Buffer): FatGeometry | undefined {
  if (sector.length < 512 || sector.readUInt16LE(510) !== 0xaa55) return undefined
  const sectorBytes = sector.readUInt16LE(11)
  const sectorsPerCluster = sector.readUInt8(13)
  const reservedSectors = sector.readUInt16LE(14)
  const tableCount = sector.readUInt8(16)
  const rootEntries = sector.readUInt16LE(17)
  const shortTable = sector.readUInt16LE(22)
  const isWide = shortTable === 0
  const sectors = sector.readUInt16LE(19) || sector.readUInt32LE(32)
  const tableSectors = isWide ? sector.readUInt32LE(36) : shortTable
  if (!isPowerOfTwo(sectorBytes) || sectorBytes < 512 || sectorBytes > 4096) return undefined
  if (!isPowerOfTwo(sectorsPerCluster) || sectorsPerCluster * sectorBytes > 262144) return undefined
  if (reservedSectors === 0 || tableCount < 1 || tableCount > 2 || tableSectors === 0) return undefined
  const media = sector.readUInt8(21)
  if (media !== 0xf0 && media < 0xf8) return undefined
  if (isWide ? rootEntries !== 0 || sector.readUInt16LE(42) !== 0 : rootEntries === 0) return undefined
  if ((rootEntries * 32) % sectorBytes !== 0) return undefined
  const tableOffset = reservedSectors * sectorBytes
  const tableBytes = tableSectors * sectorBytes
  const rootOffset = tableOffset + tableCount * tableBytes
  const dataOffset = rootOffset + rootEntries * 32
  const clusterBytes = sectorsPerCluster * sectorBytes
  const sizeBytes = sectors * sectorBytes
  const clusterCount = Math.floor((sizeBytes - dataOffset) / clusterBytes)
  const bits = isWide ? 32 : clusterCount <= FAT12_CLUSTERS_MAX ? 12 : 16
  const clustersMax = isWide ? FAT32_CLUSTERS_MAX : FAT16_CLUSTERS_MAX
  if (clusterCount < 1 || clusterCount > clustersMax) return undefined
  if (Math.ceil(((clusterCount + 2) * bits) / 8) > tableBytes) return undefined
  const rootCluster = isWide ? sector.readUInt32LE(44) : 0
  if (isWide && (rootCluster < 2 || rootCluster > clusterCount + 1)) return undefined
  const infoSector = isWide ? sector.readUInt16LE(48) : 0
  const hasInfo = infoSector !== 0 && infoSector < reservedSectors
  const extra = isWide ? 64 : 36
  const hasExtra = sector.readUInt8(extra + 2) === 0x29
  const serial = sector
    .readUInt32LE(extra + 3)
    .toString(16)
    .padStart(8, '0')
    .toUpperCase()
  return {
    bits,
    sectorBytes,
    clusterBytes,
    clusterCount,
    tableOffset,
    tableBytes,
    tableCount,
    rootOffset,
    rootBytes: rootEntries * 32,
    rootCluster,
    dataOffset,
    sizeBytes,
    infoOffset: hasInfo ? infoSector * sectorBytes : 0,
    isMirrored: !isWide || (sector.readUInt16LE(40) & 0x80) === 0,
    label: hasExtra ? readLabel(sector.subarray(extra + 7, extra + 18)) : '',
    uuid: hasExtra ? `${serial.slice(0, 4)}-${serial.slice(4)}` : '',
  }
}

/** Eleven bytes with blanks behind. */
export function readLabel(bytes: Buffer): string {
  const text = bytes.toString('latin1').replace(/[ \0]+$/, '')
  return text === 'NO NAME' ? '' : text
}

function isPowerOfTwo(number: number): boolean {
  return number > 0 && (number & (number - 1)) === 0
}
