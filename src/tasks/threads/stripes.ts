import { setImmediate as eventLoopTurn } from 'node:timers/promises'
import { rawFile } from '../../disk/file-disk.ts'
import { openNbd } from '../../disk/nbd-client.ts'
import type { DomainId } from '../../image/ids.ts'
import type { Stripe } from '../../store/capture.ts'
import { type CaptureCounts, ChunkWriter } from '../../store/chunk-writer.ts'
import type { SourceDisk } from '../store-jobs.ts'
import { openRegion, type RegionPlace } from './region.ts'

/** What the threads of one capture share. */
export interface StripeData {
  readonly place: RegionPlace
  readonly sessionId: string
  readonly domain: DomainId
  readonly chunkBytes: number
  readonly disks: readonly (SourceDisk & { readonly ids: Uint8Array<SharedArrayBuffer> })[]
  readonly stripes: readonly (Stripe & { readonly diskIndex: number })[]
  /** Number of the stripe that is taken next, counted up by all threads. */
  readonly next: Int32Array<SharedArrayBuffer>
  readonly claims: SharedArrayBuffer
  /** A pack is sealed when it has reached this many bytes. */
  readonly packBytes: number
}

export interface StripeNews {
  readonly safeBytes: number
}

/** Reads are of one chunk: longer ones cost more, because the buffers no longer fit the cores' caches. So many are on the way. */
const READ_BYTES = 256 * 1024
const READS_AHEAD = 4
/**
 * After so many reads the event loop turns once. Reading a raw file waits for nothing, and without this neither would a
 * finished write be seen before the next pack is full, nor a stop.
 */
const READS_PER_TURN = 2

interface Piece {
  readonly diskIndex: number
  readonly firstChunk: number
  readonly offset: number
  readonly lengthBytes: number
}

function* pieces({ stripes, next, disks, chunkBytes }: StripeData): Iterable<Piece> {
  for (;;) {
    const stripe = stripes[Atomics.add(next, 0, 1)]
    if (stripe === undefined) return
    const sizeBytes = disks[stripe.diskIndex]?.sizeBytes ?? 0
    const chunksPerRead = Math.max(1, Math.floor(READ_BYTES / chunkBytes))
    for (const run of stripe.runs) {
      for (let done = 0; done < run.count; done += chunksPerRead) {
        const firstChunk = run.firstIndex + done
        const offset = firstChunk * chunkBytes
        const endBytes = (firstChunk + Math.min(chunksPerRead, run.count - done)) * chunkBytes
        yield {
          diskIndex: stripe.diskIndex,
          firstChunk,
          offset,
          lengthBytes: Math.min(endBytes, sizeBytes) - offset,
        }
      }
    }
  }
}

/** A disk to read: what `begin` answers has read it when its promise, if there is one, resolves. */
interface Source {
  begin(target: Uint8Array, offset: number): () => Promise<void> | undefined
  close(): Promise<void> | void
}

async function openSource(disk: SourceDisk, signal: AbortSignal): Promise<Source> {
  if (disk.rawDescriptor !== undefined && disk.cleaned === undefined) {
    const file = rawFile(disk.rawDescriptor)
    return {
      // Read when it is wanted: the bytes are then still in the core's cache for hashing.
      begin: (target, offset) => () => {
        file.readInto(target, offset)
        return undefined
      },
      // Others read the same descriptor.
      close: () => {},
    }
  }
  const client = await openNbd(disk.cleaned ?? disk, { signal })
  return {
    begin(target, offset) {
      const read = client.readInto(target, offset)
      // Awaited in its turn; until then a failure must not count as unhandled.
      read.catch(() => {})
      return () => read
    },
    close: () => client.close(),
  }
}

/**
 * One thread's part of a capture: takes the next stripe until there are none, then makes durable what it wrote. When it
 * fails or is stopped it writes no more.
 */
export async function captureStripes(
  data: StripeData,
  options: { readonly signal: AbortSignal; readonly tell: (news: StripeNews) => void },
): Promise<CaptureCounts> {
  const { place, sessionId, domain, chunkBytes, claims, disks, packBytes } = data
  const { signal, tell } = options
  const region = await openRegion(place, packBytes)
  const writer = await ChunkWriter.open({ region, sessionId, domain, chunkBytes, claims, signal })
  const sources: Source[] = []
  const buffers = Array.from({ length: READS_AHEAD }, () =>
    Buffer.allocUnsafeSlow(Math.max(READ_BYTES, chunkBytes)),
  )
  const ahead: { piece: Piece; buffer: Buffer<ArrayBuffer>; read: () => Promise<void> | undefined }[] = []
  const queue = pieces(data)[Symbol.iterator]()
  let toldBytes = 0
  let readsSinceTurn = 0
  const ask = () => {
    const buffer = buffers.pop()
    if (buffer === undefined) return
    const next = queue.next()
    if (next.done === true) {
      buffers.push(buffer)
      return
    }
    const piece = next.value
    const source = sources[piece.diskIndex]
    if (source === undefined) throw new Error('a piece is of a disk that was opened')
    const read = source.begin(buffer.subarray(0, piece.lengthBytes), piece.offset)
    ahead.push({ piece, buffer, read })
  }
  try {
    // One after the other: those that were opened before one fails are closed again.
    for (const disk of disks) sources.push(await openSource(disk, signal))
    for (let i = 0; i < READS_AHEAD; i++) ask()
    for (let first = ahead.shift(); first !== undefined; first = ahead.shift()) {
      const { piece, buffer, read } = first
      await read()
      signal.throwIfAborted()
      const ids = disks[piece.diskIndex]?.ids as Uint8Array
      for (let at = 0, index = piece.firstChunk; at < piece.lengthBytes; at += chunkBytes, index++) {
        await writer.feed(ids, index, buffer.subarray(at, Math.min(at + chunkBytes, piece.lengthBytes)))
      }
      // It grows by a pack at a time, and a message costs more than the look.
      if (writer.safeBytes > toldBytes) {
        toldBytes = writer.safeBytes
        tell({ safeBytes: toldBytes })
      }
      buffers.push(buffer)
      ask()
      if (++readsSinceTurn === READS_PER_TURN) {
        readsSinceTurn = 0
        await eventLoopTurn()
      }
    }
    return await writer.finish()
  } catch (error) {
    await writer.abandon()
    throw error
  } finally {
    await Promise.all(sources.map((source) => source.close()))
    region.close()
  }
}
