import { openNbd } from '../../disk/nbd-client.ts'
import type { DomainId } from '../../image/ids.ts'
import type { Stripe } from '../../store/capture.ts'
import { type CaptureCounts, ChunkWriter } from '../../store/chunk-writer.ts'
import type { SourceDisk } from '../store-jobs.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { inThread } from './thread.ts'

/** One thread of a capture. It takes the next stripe until there are none. */
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
}

export interface StripeNews {
  readonly safeBytes: number
}

/** A read is this long at most, and so many are on the way while the thread hashes and packs. */
const READ_BYTES = 1024 * 1024
const READS_AHEAD = 6

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

inThread(async (data: StripeData, { signal, tell }): Promise<CaptureCounts> => {
  const { place, sessionId, domain, chunkBytes, claims, disks } = data
  const region = await openRegion(place)
  const writer = await ChunkWriter.open({ region, sessionId, domain, chunkBytes, claims, signal })
  const clients = await Promise.all(disks.map((disk) => openNbd(disk, { signal })))
  const buffers = Array.from({ length: READS_AHEAD }, () =>
    Buffer.allocUnsafeSlow(Math.max(READ_BYTES, chunkBytes)),
  )
  const ahead: { piece: Piece; buffer: Buffer<ArrayBuffer>; read: Promise<void> }[] = []
  const queue = pieces(data)[Symbol.iterator]()
  const ask = () => {
    const buffer = buffers.pop()
    if (buffer === undefined) return
    const next = queue.next()
    if (next.done === true) {
      buffers.push(buffer)
      return
    }
    const piece = next.value
    const client = clients[piece.diskIndex]
    if (client === undefined) throw new Error('a piece is of a disk that was opened')
    const read = client.readInto(buffer.subarray(0, piece.lengthBytes), piece.offset)
    // Awaited in its turn; until then a failure must not count as unhandled.
    read.catch(() => {})
    ahead.push({ piece, buffer, read })
  }
  try {
    for (let i = 0; i < READS_AHEAD; i++) ask()
    for (let first = ahead.shift(); first !== undefined; first = ahead.shift()) {
      const { piece, buffer, read } = first
      await read
      signal.throwIfAborted()
      const ids = disks[piece.diskIndex]?.ids as Uint8Array
      for (let at = 0, index = piece.firstChunk; at < piece.lengthBytes; at += chunkBytes, index++) {
        await writer.feed(ids, index, buffer.subarray(at, Math.min(at + chunkBytes, piece.lengthBytes)))
      }
      tell({ safeBytes: writer.safeBytes } satisfies StripeNews)
      buffers.push(buffer)
      ask()
    }
    return await writer.finish()
  } catch (error) {
    await writer.abandon()
    throw error
  } finally {
    await Promise.all(clients.map((client) => client.close()))
    region.close()
  }
})
