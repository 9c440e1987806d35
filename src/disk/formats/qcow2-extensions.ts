import type { ByteSource } from './contract.ts'
import type { Qcow2Header } from './qcow2-header.ts'
import {
  refuseBacking,
  refuseCorrupt,
  refuseDataFile,
  refuseEncrypted,
  refuseFeature,
  refuseTables,
} from './qcow2-refuse.ts'
import { readUpTo } from './source.ts'

const END = 0
const BACKING_FORMAT = 0xe2792aca
const FEATURE_NAMES = 0x6803f857
const BITMAPS = 0x23852875
const ENCRYPTION = 0x0537be77
const DATA_FILE = 0x44415441

const EXTENSION_HEADER_BYTES = 8
const FEATURE_NAME_BYTES = 48
const BITMAPS_BYTES = 24

/** Where the extension for bitmaps begins, if there is one. Everything that points to another file is refused. */
export async function readQcow2Extensions(
  source: ByteSource,
  header: Qcow2Header,
  signal: AbortSignal | undefined,
): Promise<{ readonly bitmaps: Buffer | undefined }> {
  const end = Math.min(header.clusterBytes, source.sizeBytes)
  const seen = new Set<number>()
  let bitmaps: Buffer | undefined
  // Each kind may be there once, so the loop is short whatever the lengths are.
  for (let at = header.headerBytes; at + EXTENSION_HEADER_BYTES <= end; ) {
    const head = await source.read(at, EXTENSION_HEADER_BYTES, signal)
    const type = head.readUInt32BE(0)
    const lengthBytes = head.readUInt32BE(4)
    if (type === END) {
      if (lengthBytes !== 0) throw refuseTables('Its header extensions end twice')
      break
    }
    checkType(type, lengthBytes)
    if (seen.has(type)) throw refuseCorrupt('The qcow2 file has one header extension twice')
    seen.add(type)
    const next = at + EXTENSION_HEADER_BYTES + Math.ceil(lengthBytes / 8) * 8
    if (next > end) throw refuseTables('A header extension is longer than the header')
    if (type === BITMAPS) {
      bitmaps = await readUpTo(source, at + EXTENSION_HEADER_BYTES, BITMAPS_BYTES, signal)
    }
    at = next
  }
  if (bitmaps !== undefined && header.version === 2) {
    throw refuseFeature('an extension of a later version')
  }
  if (header.hasBitmaps && bitmaps === undefined) {
    throw refuseCorrupt('The qcow2 file is said to have bitmaps and has none')
  }
  return { bitmaps }
}

function checkType(type: number, lengthBytes: number): void {
  switch (type) {
    case BACKING_FORMAT:
      throw refuseBacking()
    case DATA_FILE:
      throw refuseDataFile()
    case ENCRYPTION:
      throw refuseEncrypted()
    case FEATURE_NAMES:
      if (lengthBytes % FEATURE_NAME_BYTES !== 0) throw refuseTables('Its table of features is not whole')
      return
    case BITMAPS:
      if (lengthBytes !== BITMAPS_BYTES) throw refuseTables('Its extension for bitmaps is not whole')
      return
    default:
      throw refuseFeature('a header extension of a later version')
  }
}
