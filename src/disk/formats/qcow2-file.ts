import type { ByteSource } from './contract.ts'
import type { Qcow2Header } from './qcow2-header.ts'
import { refuseTables, refuseTruncated } from './qcow2-refuse.ts'
import { UsedClusters } from './qcow2-used-clusters.ts'
import { TableWalk } from './windows.ts'

/** One qcow2 file while it is walked: where things may be, and who has which cluster. */
export class Qcow2File {
  readonly header: Qcow2Header
  readonly sizeBytes: number
  readonly used: UsedClusters
  readonly walk: TableWalk

  constructor(source: ByteSource, header: Qcow2Header, signal: AbortSignal | undefined) {
    this.header = header
    this.sizeBytes = source.sizeBytes
    this.used = new UsedClusters(Math.ceil(source.sizeBytes / header.clusterBytes))
    this.walk = new TableWalk(source, signal)
  }

  /** [offset, offset + lengthBytes), of metadata, is aligned, inside the file and nobody else's. `what`: 'Its L1 table'. */
  takeTable(what: string, offset: number, lengthBytes: number): void {
    const { clusterBytes } = this.header
    if (offset % clusterBytes !== 0) throw refuseTables(`${what} does not begin where a cluster does`)
    if (offset + lengthBytes > this.sizeBytes) throw refuseTruncated(`${what} ends`)
    if (!this.used.take(offset / clusterBytes, Math.ceil(lengthBytes / clusterBytes))) {
      throw refuseTables(`${what} lies over something else in the file`)
    }
  }
}

/** The offset in an entry whose bits 0–8 and 56–63 mean something else, or nothing. */
export function offsetOfEntry(high: number, low: number): number {
  return (high & 0x00ff_ffff) * 2 ** 32 + ((low & 0xffff_fe00) >>> 0)
}
