import { createHash } from 'node:crypto'
import { constants, zstdCompressSync } from 'node:zlib'
import { Fault } from '../../image/fault.ts'
import { inOrder } from '../../store/in-order.ts'
import type { RegionStore } from '../../store/region.ts'
import type { ExportJob } from '../store-jobs.ts'
import { cutAtRuns, type Runs, SLAB_BYTES } from './export-runs.ts'
import { ExportSource } from './export-source.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { SpareMemory } from './spare-memory.ts'
import { answer } from './talk.ts'

/** What the export threads are asked: see `Exports`. `key`: of a stream, between its 'open' and its 'close'. */
export type ExportAsk =
  /** What of the file is zero, and which runs of the disk are not, unless these are known. */
  | { readonly is: 'describe'; readonly place: RegionPlace; readonly job: ExportJob; readonly known: boolean }
  | {
      readonly is: 'open'
      readonly key: number
      readonly place: RegionPlace
      readonly job: ExportJob
      readonly dataRuns: Runs
    }
  /** Bytes of the file, at the beginning of `slab`, which is the answer. */
  | {
      readonly is: 'make'
      readonly key: number
      readonly offset: number
      readonly lengthBytes: number
      readonly slab: ArrayBuffer
    }
  /** Bytes of the file as one zstd frame; or their SHA-256. */
  | {
      readonly is: 'pack' | 'hash'
      readonly key: number
      readonly offset: number
      readonly lengthBytes: number
    }
  | { readonly is: 'close'; readonly key: number }

/** What a 'describe' answers; undefined where it was known and the image is still there. */
export interface ExportPlan {
  readonly sizeBytes: number
  readonly dataRuns: Runs
  readonly zeroRuns: Runs
  /** Where pieces of the file are best cut: as `cutAtRuns` takes it. */
  readonly cutsAt: number
}

interface Stream {
  readonly source: Promise<ExportSource>
  readonly abort: AbortController
}

/** Slabs that are read while others are hashed. */
const HASHED_AHEAD = 3
const ZSTD_LEVEL = 3
/** Layouts are kept for the next range of the same file. */
const SOURCES_MAX = 8

const regions = new Map<string, Promise<RegionStore>>()
const sources = new Map<string, Promise<ExportSource>>()
const streams = new Map<number, Stream>()
/** What was hashed last, for whoever reads it now. */
let hashed: { readonly source: ExportSource; readonly slabs: Map<number, Buffer<ArrayBuffer>> } | undefined
/** Most of a large file is ranges of one length with nothing in them. */
let lastZeroes: { readonly lengthBytes: number; readonly digest: Buffer } | undefined
let lastHash: Promise<unknown> = Promise.resolve()
const spare = new SpareMemory()

function regionOf(place: RegionPlace): Promise<RegionStore> {
  return keep(regions, place.regionId, () => openRegion(place))
}

function sourceOf(place: RegionPlace, job: ExportJob, dataRuns: Runs | undefined): Promise<ExportSource> {
  const key = [job.regionId, job.digest, job.diskIndex, job.format].join(' ')
  const source = keep(sources, key, async () =>
    ExportSource.open(await regionOf(place), job, dataRuns, undefined),
  )
  for (const oldest of sources.keys()) {
    if (sources.size <= SOURCES_MAX) break
    sources.delete(oldest)
  }
  return source
}

/** What is there under the key, or else made; a failure is not kept. The last one asked for is the last in the map. */
function keep<Value>(
  map: Map<string, Promise<Value>>,
  key: string,
  make: () => Promise<Value>,
): Promise<Value> {
  let value = map.get(key)
  if (value === undefined) {
    value = make()
    const made = value
    made.catch(() => {
      if (map.get(key) === made) map.delete(key)
    })
  } else map.delete(key)
  map.set(key, value)
  return value
}

async function reply(ask: ExportAsk): Promise<unknown> {
  switch (ask.is) {
    case 'describe':
      return describe(ask.place, ask.job, ask.known)
    case 'open': {
      const source = sourceOf(ask.place, ask.job, ask.dataRuns)
      // Whoever asks the stream for bytes hears of it.
      source.catch(() => {})
      streams.set(ask.key, { source, abort: new AbortController() })
      return undefined
    }
    case 'close':
      streams.get(ask.key)?.abort.abort(new Fault('unavailable', 'Nobody reads this export any more.'))
      streams.delete(ask.key)
      return undefined
    case 'make':
    case 'pack':
    case 'hash': {
      const stream = streams.get(ask.key)
      if (stream === undefined) throw new Fault('unavailable', 'This export was closed.')
      const source = await stream.source
      const { offset, lengthBytes } = ask
      const { signal } = stream.abort
      if (ask.is === 'make') {
        await make(source, offset, Buffer.from(ask.slab, 0, lengthBytes), signal)
        return ask.slab
      }
      return ask.is === 'pack'
        ? pack(source, offset, lengthBytes, signal)
        : hash(source, offset, lengthBytes, signal)
    }
    default:
      throw ask satisfies never
  }
}

async function describe(place: RegionPlace, job: ExportJob, known: boolean): Promise<ExportPlan | undefined> {
  // Even of a file that is known: its image may be gone by now.
  await (await regionOf(place)).getImage(job.digest)
  if (known) return undefined
  const source = await sourceOf(place, job, undefined)
  const { layout, dataRuns, zeroRuns, cutsAt } = source
  return { sizeBytes: layout.sizeBytes, dataRuns, zeroRuns, cutsAt }
}

async function make(
  source: ExportSource,
  offset: number,
  target: Buffer,
  signal: AbortSignal,
): Promise<void> {
  const slab = hashed?.source === source ? hashed.slabs.get(offset) : undefined
  if (slab?.length !== target.length) return source.makeInto(target, offset, signal)
  hashed?.slabs.delete(offset)
  target.set(slab)
}

/**
 * A frame of its own, which tells its length: frames that follow each other are one file to every reader, and several
 * threads can make them.
 */
async function pack(source: ExportSource, offset: number, lengthBytes: number, signal: AbortSignal) {
  const memory = spare.take(lengthBytes)
  const plain = memory.subarray(0, lengthBytes)
  await source.makeInto(plain, offset, signal)
  const packed = zstdCompressSync(plain, {
    pledgedSrcSize: lengthBytes,
    params: {
      [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL,
      [constants.ZSTD_c_checksumFlag]: 1,
    },
  })
  spare.give(memory)
  // In memory that can be handed over.
  return packed.byteLength === packed.buffer.byteLength ? packed : Uint8Array.from(packed)
}

/** One at a time, so that what is kept for the readers of what was hashed stays one range. */
function hash(source: ExportSource, offset: number, lengthBytes: number, signal: AbortSignal) {
  const hashing = lastHash.then(() => hashRange(source, offset, lengthBytes, signal))
  lastHash = hashing.catch(() => {})
  return hashing
}

async function hashRange(
  source: ExportSource,
  offset: number,
  lengthBytes: number,
  signal: AbortSignal,
): Promise<Buffer> {
  const hash = createHash('sha256')
  const slabs = new Map<number, Buffer<ArrayBuffer>>()
  // What was kept for others is made again where they still want it.
  hashed = undefined
  const items = [...cutAtRuns(source.zeroRuns, offset, offset + lengthBytes, SLAB_BYTES, source.cutsAt)]
  if (items.every(({ isInRun }) => isInRun) && lastZeroes?.lengthBytes === lengthBytes)
    return Buffer.from(lastZeroes.digest)
  const made = inOrder(items, HASHED_AHEAD, (item) => source.look(item, signal))
  for await (const [item, slab] of made) {
    signal.throwIfAborted()
    hash.update(slab)
    if (!item.isInRun) slabs.set(item.offset, slab)
  }
  const digest = hash.digest()
  if (slabs.size === 0) lastZeroes = { lengthBytes, digest: Buffer.from(digest) }
  hashed = { source, slabs }
  return digest
}

/** A slab, or bytes with memory of their own: what a piece of the pool lies in would go with it. */
answer(reply, (result) => {
  if (result instanceof ArrayBuffer) return [result]
  const isOwn = result instanceof Uint8Array && result.byteLength === result.buffer.byteLength
  return isOwn ? [result.buffer as ArrayBuffer] : []
})
