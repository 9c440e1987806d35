import { cachedSource } from './cached-source.ts'
import type { ByteSource, FormatInspector, InspectedDisk, InspectionOptions } from './contract.ts'
import { refuseFile } from './contract.ts'
import { checkVirtualSize, readInside, refuseTruncated, SECTOR_BYTES } from './numbers.ts'
import { readUpTo } from './source.ts'
import { checkVmdkDescriptor, refuseExtents } from './vmdk-descriptor.ts'
import { isSameDisk, parseVmdkHeader, refuseHeader, VMDK_MARK, type VmdkHeader } from './vmdk-header.ts'
import { walkGrains } from './vmdk-tables.ts'

const HEAD_BYTES = 8192
/** First bytes of ESX's own kinds: copy-on-write (COWD) and space-efficient sparse. */
const ESX_MARKS = [Buffer.from('COWD', 'latin1'), Buffer.from('bebafeca00000000', 'hex')]
const MARKER = { endOfStream: 0, footer: 3 }

export const vmdkInspector: FormatInspector = {
  format: 'vmdk',
  async matches(source, signal) {
    const head = await readUpTo(source, 0, HEAD_BYTES, signal)
    return head.toString('latin1', 0, 4) === VMDK_MARK || isEsx(head) || isDescriptor(head)
  },
}

/**
 * A VMDK in one file that holds everything itself: monolithicSparse, or streamOptimized with its compressed grains.
 * Source: VMware's "Virtual Disk Format 5.0", and what qemu's driver makes of each field.
 */
export async function inspectVmdk(source: ByteSource, options: InspectionOptions): Promise<InspectedDisk> {
  const { signal } = options
  const head = await readUpTo(source, 0, HEAD_BYTES, signal)
  if (isEsx(head)) {
    throw refuseFile(
      'unsupported',
      'This VMDK is of the kind that only ESX keeps on its own volumes. Export the machine as OVA, or clone the disk with: vmkfstools -i SOURCE.vmdk -d thin TARGET.vmdk.',
    )
  }
  if (head.toString('latin1', 0, 4) !== VMDK_MARK) throw refuseExtents()
  const file = cachedSource(source)
  const header = parseVmdkHeader(await readInside(file, 0, SECTOR_BYTES, signal))
  // Of nothing, tools make a list of extents that may lead anywhere.
  if (header.capacity === 0n) throw refuseExtents()
  const createType = header.isCompressed ? 'streamOptimized' : 'monolithicSparse'
  const virtualBytes = Number(header.capacity) * SECTOR_BYTES
  checkVirtualSize(virtualBytes, options.virtualBytesMax)
  checkVmdkDescriptor(
    await readInside(file, SECTOR_BYTES, header.descriptorSectors * SECTOR_BYTES, signal),
    createType,
    header.capacity,
  )
  const last = await lastHeader(file, header, signal)
  if (last.overhead * BigInt(SECTOR_BYTES) > BigInt(source.sizeBytes)) throw refuseTruncated()
  await walkGrains(file, last, signal)
  return { format: 'vmdk', offset: 0, lengthBytes: source.sizeBytes, virtualBytes, variant: createType }
}

/**
 * The header that counts. A stream's footer is read by some tools and not by others, and so has to tell the same disk
 * wherever there is one.
 */
async function lastHeader(file: ByteSource, header: VmdkHeader, signal?: AbortSignal): Promise<VmdkHeader> {
  if (!header.isCompressed) {
    if (header.directory === undefined) throw refuseHeader()
    return header
  }
  const tailBytes = 3 * SECTOR_BYTES
  const tail = await readUpTo(file, file.sizeBytes - tailBytes, tailBytes, signal)
  const hasFooter = tail.toString('latin1', SECTOR_BYTES, SECTOR_BYTES + 4) === VMDK_MARK
  if (!hasFooter) {
    if (header.directory === undefined) throw refuseTruncated()
    return header
  }
  const isWhole =
    file.sizeBytes % SECTOR_BYTES === 0 &&
    markerType(tail, 0) === MARKER.footer &&
    markerType(tail, 2 * SECTOR_BYTES) === MARKER.endOfStream &&
    tail.readBigUInt64LE(2 * SECTOR_BYTES) === 0n
  const footer = parseVmdkHeader(tail.subarray(SECTOR_BYTES, 2 * SECTOR_BYTES))
  const isAgreed = header.directory === undefined || header.directory === footer.directory
  if (!isWhole || !isAgreed || footer.directory === undefined || !isSameDisk(header, footer)) {
    throw refuseFile(
      'corrupt',
      'Header and footer of this VMDK tell different disks: it is damaged, or made to mislead. Export it again.',
    )
  }
  return footer
}

/** Of a marker without data; undefined for one that has some, or that continues past its sixteen bytes. */
function markerType(bytes: Buffer, at: number): number | undefined {
  return bytes.readUInt32LE(at + 8) === 0 ? bytes.readUInt32LE(at + 12) : undefined
}

function isEsx(head: Buffer): boolean {
  return ESX_MARKS.some((mark) => head.subarray(0, mark.length).equals(mark))
}

/** Text that describes a disk in other files, however much of blanks and comments comes first. */
function isDescriptor(head: Buffer): boolean {
  const text = head.toString('latin1').trimStart()
  if (/^#\s*Disk\s*DescriptorFile/i.test(text)) return true
  for (const line of text.split('\n', 200)) {
    if (/^\s*(#|$)/.test(line)) continue
    return /^\s*(version\s*=\s*[0-9]|createType\s*=|(parent)?CID\s*=)/i.test(line)
  }
  return false
}
