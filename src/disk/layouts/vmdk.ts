import type { MakeLayout } from './contract.ts'
import { idFrom } from './seed.ts'
import { SegmentList } from './segment-list.ts'
import { tooLarge } from './too-large.ts'
import { UnitRuns } from './unit-runs.ts'

// Source: VMware's "Virtual Disk Format 5.0" technical note, "Hosted Sparse Extents". Numbers are little-endian, places
// are counted in sectors.

const SECTOR_BYTES = 512
const GRAIN_BYTES = 64 * 1024
const GRAIN_SECTORS = GRAIN_BYTES / SECTOR_BYTES
const ENTRY_BYTES = 4
/** Grains that one grain table maps: 32 MiB of the disk. */
const TABLE_ENTRIES = 512
const TABLE_BYTES = TABLE_ENTRIES * ENTRY_BYTES
const DESCRIPTOR_AT = 1
const DESCRIPTOR_SECTORS = 20
/** A place is 32 bits of sectors. */
const PLACE_BYTES_MAX = 2 ** 32 * SECTOR_BYTES
/** The marks of line ends are right, and there is a second directory. */
const FLAGS = 3
const HEADS = 255
const TRACK_SECTORS = 63

/** monolithicSparse: header, description, both grain directories with all of their tables, and the grains that hold data. */
export const vmdkLayout: MakeLayout = ({ sizeBytes, extents, seed }) => {
  if (sizeBytes > PLACE_BYTES_MAX) throw tooLarge('vmdk', 'disks of at most 2 TiB', 'qcow2, vhdx or raw')
  const grains = UnitRuns.touched(extents, GRAIN_BYTES)
  const tables = grains.coarser(TABLE_ENTRIES)
  const tableCount = Math.ceil(sizeBytes / GRAIN_BYTES / TABLE_ENTRIES)
  const directorySectors = Math.ceil((tableCount * ENTRY_BYTES) / SECTOR_BYTES)
  const tablesSectors = (tableCount * TABLE_BYTES) / SECTOR_BYTES
  const spareAt = DESCRIPTOR_AT + DESCRIPTOR_SECTORS
  const mainAt = spareAt + directorySectors + tablesSectors
  const dataAt = Math.ceil((mainAt + directorySectors + tablesSectors) / GRAIN_SECTORS) * GRAIN_SECTORS
  if (dataAt * SECTOR_BYTES + grains.count * GRAIN_BYTES > PLACE_BYTES_MAX) {
    throw tooLarge('vmdk', 'files of at most 2 TiB', 'qcow2, vhdx or raw')
  }

  const file = new SegmentList()
  file.addBytes(header({ sizeBytes, spareAt, mainAt, dataAt }))
  file.addBytes(descriptor(sizeBytes, idFrom(seed, 'content').readUInt32LE()))
  for (const at of [spareAt, mainAt]) {
    file.addTable(directorySectors * SECTOR_BYTES, ENTRY_BYTES, (target, first, end) => {
      for (let i = first; i < Math.min(end, tableCount); i++) {
        const place = at + directorySectors + (i * TABLE_BYTES) / SECTOR_BYTES
        target.writeUInt32LE(place, (i - first) * ENTRY_BYTES)
      }
    })
    let next = 0
    for (const run of tables.runs()) {
      file.addZeroes((run.first - next) * TABLE_BYTES)
      const base = run.first * TABLE_ENTRIES
      file.addTable(run.count * TABLE_BYTES, ENTRY_BYTES, (target, first, end) => {
        grains.walk(base + first, base + end, (grain, ordinal) =>
          target.writeUInt32LE(dataAt + ordinal * GRAIN_SECTORS, (grain - base - first) * ENTRY_BYTES),
        )
      })
      next = run.first + run.count
    }
    file.addZeroes((tableCount - next) * TABLE_BYTES)
  }
  file.alignTo(GRAIN_BYTES)
  file.addUnits(grains, GRAIN_BYTES, sizeBytes)
  return file.layout('vmdk')
}

function header(facts: {
  readonly sizeBytes: number
  readonly spareAt: number
  readonly mainAt: number
  readonly dataAt: number
}): Buffer {
  const bytes = Buffer.alloc(SECTOR_BYTES)
  const writePlace = (sectors: number, at: number) => bytes.writeBigUInt64LE(BigInt(sectors), at)
  bytes.write('KDMV', 0, 'latin1')
  bytes.writeUInt32LE(1, 4)
  bytes.writeUInt32LE(FLAGS, 8)
  writePlace(facts.sizeBytes / SECTOR_BYTES, 12)
  writePlace(GRAIN_SECTORS, 20)
  writePlace(DESCRIPTOR_AT, 28)
  writePlace(DESCRIPTOR_SECTORS, 36)
  bytes.writeUInt32LE(TABLE_ENTRIES, 44)
  writePlace(facts.spareAt, 48)
  writePlace(facts.mainAt, 56)
  writePlace(facts.dataAt, 64)
  // A file that went through a transfer as text has lost one of them.
  bytes.write('\n \r\n', 73, 'latin1')
  return bytes
}

/** The name in it is nobody's: a file that holds its own description is known by its header. */
function descriptor(sizeBytes: number, seed: number): Buffer {
  const sectors = sizeBytes / SECTOR_BYTES
  // Neither 0 nor ffffffff, which would be no content and no parent.
  const contentId = ((seed & 0x7fff_ffff) | 1).toString(16).padStart(8, '0')
  const text = `# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=${contentId}
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW ${sectors} SPARSE "disk.vmdk"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "${Math.floor(sectors / (HEADS * TRACK_SECTORS))}"
ddb.geometry.heads = "${HEADS}"
ddb.geometry.sectors = "${TRACK_SECTORS}"
ddb.adapterType = "lsilogic"
`
  const bytes = Buffer.alloc(DESCRIPTOR_SECTORS * SECTOR_BYTES)
  bytes.write(text, 0, 'latin1')
  return bytes
}
