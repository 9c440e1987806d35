import { createHash } from 'node:crypto'
import type { Extent } from '../../disk/contract.ts'
import type { FileLayout } from '../../disk/layouts/contract.ts'
import { cut } from '../../disk/layouts/cut.ts'
import { makeLayout } from '../../disk/layouts/layout.ts'
import { Fault } from '../../image/fault.ts'
import { MapDisk } from '../../store/reader.ts'
import type { RegionStore } from '../../store/region.ts'
import type { ExportJob } from '../store-jobs.ts'
import { ExportDisk, type Wanted } from './export-disk.ts'
import { extentsOf, type Item, type Runs, runsOf, SLAB_BYTES } from './export-runs.ts'

/** Zeroes of the file that are worth being told apart from what has to be made. */
const ZERO_RUN_BYTES_MIN = 1024 * 1024
const ZEROES = Buffer.alloc(SLAB_BYTES)

/** What everything inside of the file that is not the disk's is made from; equal for equal bytes. */
export function exportSeed({ digest, diskIndex, format }: ExportJob): Buffer {
  return createHash('sha256').update(`${digest} ${diskIndex} ${format}`).digest().subarray(0, 16)
}

/** A disk of an image as a file that is not there: any range of it is made when it is asked for. */
export class ExportSource {
  readonly layout: FileLayout
  /** Of the disk, what holds data. */
  readonly dataRuns: Runs
  /** Of the file, the longer runs of zeroes. */
  readonly zeroRuns: Runs
  /** Where pieces of the file are best cut: as `cutAtRuns` takes it. */
  readonly cutsAt: number
  readonly #disk: ExportDisk

  private constructor(disk: ExportDisk, layout: FileLayout, dataRuns: Runs, chunkBytes: number) {
    this.#disk = disk
    this.cutsAt = chunksAtOf(layout, chunkBytes)
    this.layout = layout
    this.dataRuns = dataRuns
    this.zeroRuns = zeroRunsOf(layout)
  }

  /**
   * `dataRuns`: as an earlier source of the same disk told them. Faults: 'absent' 'image', 'absent' 'disk'; those of
   * `makeLayout`; 'corrupt'.
   */
  static async open(
    region: RegionStore,
    job: ExportJob,
    dataRuns: Runs | undefined,
    signal: AbortSignal | undefined,
  ): Promise<ExportSource> {
    const disk = (await region.getImage(job.digest, signal)).disks[job.diskIndex]
    if (disk === undefined) {
      throw new Fault('absent', `The image has no disk ${job.diskIndex}.`, { subject: 'disk' })
    }
    const { sizeBytes } = disk
    const extents =
      dataRuns === undefined
        ? await new MapDisk(region, disk).extents(0, sizeBytes, signal)
        : extentsOf(dataRuns, sizeBytes)
    const layout = makeLayout(job.format, { sizeBytes, extents, seed: exportSeed(job) })
    const runs = dataRuns ?? runsOf(extents.filter(isData))
    return new ExportSource(new ExportDisk(region, disk), layout, runs, disk.chunkBytes)
  }

  /** A piece of at most a slab, only to be looked at: zeroes that are known are the same memory each time. */
  async look(item: Item, signal?: AbortSignal): Promise<Buffer<ArrayBuffer>> {
    const { offset, lengthBytes, isInRun } = item
    return isInRun ? ZEROES.subarray(0, lengthBytes) : this.make(offset, lengthBytes, signal)
  }

  /** [offset, offset + lengthBytes) of the file, in memory that is nobody else's. Faults as `ExportDisk.read`. */
  async make(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer<ArrayBuffer>> {
    const slab = Buffer.allocUnsafeSlow(lengthBytes)
    await this.makeInto(slab, offset, signal)
    return slab
  }

  /** Fills `target` with the bytes from `offset` on. Faults as `ExportDisk.read`. */
  async makeInto(target: Buffer, offset: number, signal?: AbortSignal): Promise<void> {
    const wanted: Wanted[] = []
    let at = 0
    for (const piece of cut(this.layout, offset, target.length)) {
      const part = target.subarray(at, at + piece.lengthBytes)
      if (piece.is === 'made') part.set(piece.make())
      else if (piece.is === 'zero') part.fill(0)
      else wanted.push({ diskOffset: piece.diskOffset, target: part })
      at += piece.lengthBytes
    }
    if (wanted.length > 0) await this.#disk.read(wanted, signal)
  }
}

/** Where in the file chunks begin: so many bytes behind each multiple of their length, as long as the file has whole chunks. */
function chunksAtOf({ segments }: FileLayout, chunkBytes: number): number {
  let at = 0
  for (const segment of segments) {
    if (segment.is === 'disk') return (at + chunkBytes - (segment.diskOffset % chunkBytes)) % chunkBytes
    at += segment.lengthBytes
  }
  return 0
}

function zeroRunsOf({ segments }: FileLayout): Runs {
  const runs: { offset: number; lengthBytes: number }[] = []
  let at = 0
  for (const { is, lengthBytes } of segments) {
    const last = runs.at(-1)
    if (is === 'zero' && last !== undefined && last.offset + last.lengthBytes === at) {
      last.lengthBytes += lengthBytes
    } else if (is === 'zero') runs.push({ offset: at, lengthBytes })
    at += lengthBytes
  }
  return runsOf(runs.filter(({ lengthBytes }) => lengthBytes >= ZERO_RUN_BYTES_MIN))
}

function isData({ holds }: Extent): boolean {
  return holds === 'data'
}
