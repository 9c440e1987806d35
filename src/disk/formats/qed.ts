import { Claims } from './claims.ts'
import type { ByteSource, FormatInspector, InspectedDisk, InspectionOptions } from './contract.ts'
import { uint64LE } from './numbers.ts'
import {
  QED_MAGIC,
  type QedHeader,
  readQedHeader,
  refuseQedTables,
  refuseQedTruncated,
} from './qed-header.ts'
import { readUpTo } from './source.ts'
import { TableWalk } from './windows.ts'

const ENTRY_BYTES = 8
/** In an L2 table alone: zeros, without a cluster. */
const ZERO_CLUSTER = 1

export const qedInspector: FormatInspector & { readonly format: 'qed' } = {
  format: 'qed',
  matches: async (source, signal) => {
    const head = await readUpTo(source, 0, 4, signal)
    return head.length === 4 && head.readUInt32LE(0) === QED_MAGIC
  },
}

/** As `inspectQcow2`: one disk in one file, all of whose tables lead to places that belong to nothing else. */
export async function inspectQed(source: ByteSource, options: InspectionOptions): Promise<InspectedDisk> {
  const header = await readQedHeader(source, options)
  await new QedTables(source, header, options.signal).check()
  return {
    format: 'qed',
    offset: 0,
    lengthBytes: source.sizeBytes,
    virtualBytes: header.virtualBytes,
    variant: `clusters of ${header.clusterBytes / 1024} KiB`,
  }
}

class QedTables {
  readonly #header: QedHeader
  readonly #used: Claims
  readonly #walk: TableWalk
  /** QEMU does not see the rest of a last cluster that is not whole. */
  readonly #end: number

  constructor(source: ByteSource, header: QedHeader, signal: AbortSignal | undefined) {
    this.#header = header
    this.#end = source.sizeBytes - (source.sizeBytes % header.clusterBytes)
    this.#used = new Claims(this.#end / header.clusterBytes)
    this.#walk = new TableWalk(source, signal)
  }

  async check(): Promise<void> {
    const { l1Offset, tableBytes, headBytes } = this.#header
    this.#take('Its header', 0, headBytes)
    this.#take('Its L1 table', l1Offset, tableBytes)
    const offsets = new Float64Array(tableBytes / ENTRY_BYTES)
    let count = 0
    await this.#walk.visitRange(l1Offset, tableBytes, (bytes) => {
      for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
        const offset = uint64LE(bytes, at)
        if (offset === 0) continue
        this.#take('An L2 table', offset, tableBytes)
        offsets[count] = offset
        count += 1
      }
    })
    await this.#walk.visitTables(offsets.subarray(0, count), tableBytes, (bytes) => this.#checkData(bytes))
  }

  #checkData(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
      const low = bytes.readUInt32LE(at)
      const high = bytes.readUInt32LE(at + 4)
      if (high === 0 && low <= ZERO_CLUSTER) continue
      this.#take('Data of the disk', high * 2 ** 32 + low, this.#header.clusterBytes)
    }
  }

  #take(what: string, offset: number, lengthBytes: number): void {
    const { clusterBytes } = this.#header
    if (offset % clusterBytes !== 0) throw refuseQedTables(`${what} does not begin where a cluster does`)
    if (offset + lengthBytes > this.#end) throw refuseQedTruncated(`${what} ends`)
    if (!this.#used.claim(offset / clusterBytes, lengthBytes / clusterBytes)) {
      throw refuseQedTables(`${what} lies over something else in the file`)
    }
  }
}
