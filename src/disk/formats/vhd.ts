import { cachedSource } from './cached-source.ts'
import type { ByteSource, FormatInspector, InspectedDisk, InspectionOptions } from './contract.ts'
import { checkVirtualSize, refuseTruncated, SECTOR_BYTES } from './numbers.ts'
import { readUpTo } from './source.ts'
import { walkVhdBlocks } from './vhd-blocks.ts'
import { parseVhdFooter, refuseVhd, VHD_DYNAMIC, VHD_FIXED, VHD_MARK } from './vhd-footer.ts'

export const vhdInspector: FormatInspector = {
  format: 'vhd',
  async matches(source, signal) {
    const head = await readUpTo(source, 0, VHD_MARK.length, signal)
    if (isMarked(head)) return true
    return isMarked(await readUpTo(source, source.sizeBytes - SECTOR_BYTES, VHD_MARK.length, signal))
  },
}

/** A VHD that holds everything itself: fixed (the disk, then a footer) or dynamic. */
export async function inspectVhd(source: ByteSource, options: InspectionOptions): Promise<InspectedDisk> {
  const { signal } = options
  // A dynamic file that was cut short still has the copy of its footer in front.
  if (source.sizeBytes < SECTOR_BYTES) throw refuseTruncated()
  const tail = await source.read(source.sizeBytes - SECTOR_BYTES, SECTOR_BYTES, signal)
  const head = await source.read(0, SECTOR_BYTES, signal)
  if (!isMarked(tail)) throw isMarked(head) ? refuseTruncated() : refuseVhd()
  const footer = parseVhdFooter(tail)
  // Readers take a copy in front for the footer of a dynamic disk, whatever it says it is of.
  const isCopied = isMarked(head)
  if (isCopied !== (footer.type === VHD_DYNAMIC) || (isCopied && !head.equals(tail))) throw refuseVhd()
  checkVirtualSize(footer.virtualBytes, options.virtualBytesMax)
  if (footer.type === VHD_FIXED) {
    if (footer.virtualBytes > source.sizeBytes - SECTOR_BYTES) throw refuseTruncated()
  } else {
    await walkVhdBlocks(cachedSource(source), footer, signal)
  }
  return {
    format: 'vhd',
    offset: 0,
    lengthBytes: source.sizeBytes,
    virtualBytes: footer.virtualBytes,
    variant: footer.type === VHD_FIXED ? 'fixed' : 'dynamic',
  }
}

function isMarked(bytes: Buffer): boolean {
  return bytes.toString('latin1', 0, VHD_MARK.length) === VHD_MARK
}
