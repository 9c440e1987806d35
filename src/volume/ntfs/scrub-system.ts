import { damaged } from '../refuse.ts'
import { ATTRIBUTE, type Attribute, findAttribute, type Ntfs, RECORD } from './model.ts'
import { isZero, type Tally } from './scrub-tally.ts'

const STEP_BYTES = 1024 * 1024
const FRESH = Buffer.alloc(STEP_BYTES, 0xff)

/** A log without any record is all ones: the system begins it anew. Its clusters behind that are cluster ends. */
export async function scrubLog(ntfs: Ntfs, log: Attribute, tally: Tally): Promise<void> {
  const { dataBytes, initializedBytes, allocatedBytes } = log
  if (initializedBytes !== dataBytes || dataBytes > allocatedBytes) throw damaged('the log has a wrong size')
  for (let offset = 0; offset < dataBytes; offset += STEP_BYTES) {
    const fresh = FRESH.subarray(0, Math.min(STEP_BYTES, dataBytes - offset))
    if ((await ntfs.readAttribute(log, offset, fresh.length)).equals(fresh)) continue
    await ntfs.writeAttribute(log, offset, fresh)
    tally.add('log', fresh.length)
  }
}

/** Where shadow copies begin, if there are any: in the boot file, behind the boot code. */
const SHADOW_OFFSET = 0x1e00
const SHADOW_BYTES = 512
const SHADOW_ID = Buffer.from('6b87083876c1484eb7ae04046e6cc752', 'hex')

/** Shadow copies are made of clusters that are zero by now: none is there any more. */
export async function scrubBoot(ntfs: Ntfs, tally: Tally): Promise<void> {
  const boot = findAttribute(await ntfs.readFile(RECORD.boot), ATTRIBUTE.data)
  if (boot === undefined || boot.value !== undefined || boot.dataBytes < SHADOW_OFFSET + SHADOW_BYTES) return
  const header = await ntfs.readAttribute(boot, SHADOW_OFFSET, SHADOW_BYTES)
  if (!header.subarray(0, SHADOW_ID.length).equals(SHADOW_ID)) return
  await ntfs.writeAttribute(boot, SHADOW_OFFSET, Buffer.alloc(SHADOW_BYTES))
  tally.add('shadow copy header', SHADOW_BYTES)
}

/** What is between the last cluster and the end of the partition, but the copy of the boot sector. */
export async function scrubBehind({ medium, geometry }: Ntfs, tally: Tally): Promise<void> {
  const { sectorBytes, clusterBytes, clusterCount, sizeBytes } = geometry
  const backups = [sizeBytes, Math.floor(medium.sizeBytes / sectorBytes - 1) * sectorBytes]
  const start = clusterCount * clusterBytes
  let at = start
  for (const backup of [...new Set(backups)].sort((a, b) => a - b)) {
    if (backup < at || backup + sectorBytes > medium.sizeBytes) continue
    const sector = await medium.read(backup, sectorBytes)
    if (!isBootSector(sector)) continue
    await zeroBehind(at, backup)
    at = backup + sectorBytes
  }
  await zeroBehind(at, medium.sizeBytes)

  async function zeroBehind(from: number, to: number): Promise<void> {
    if (from >= to) return
    if (to - from <= STEP_BYTES && isZero(await medium.read(from, to - from))) return
    tally.add('behind the volume', await medium.zero(from, to - from))
  }
}

function isBootSector(sector: Buffer): boolean {
  return sector.toString('latin1', 3, 11) === 'NTFS    ' && sector.readUInt16LE(510) === 0xaa55
}
