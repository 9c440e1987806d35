import assert from 'node:assert/strict'
import { Fault } from '../../image/fault.ts'
import type { DomainId } from '../../image/ids.ts'
import { CHUNK_BYTES_MAX } from '../chunk.ts'
import { ID_BYTES } from '../hashes.ts'
import { inOrder } from '../in-order.ts'
import { packName } from '../names.ts'
import { PackBuffer } from '../pack.ts'
import { findChunkIn } from '../peer-chunk.ts'
import { mergeRanges, type PackRange, type WantedChunk } from '../ranges.ts'
import { damagedChunk, openChunk } from '../read-chunk.ts'
import type { RegionStore } from '../region.ts'
import { chunkIdAt } from '../source.ts'

interface ReadChunk {
  readonly id: Buffer
  readonly domain: DomainId
  readonly stored: Uint8Array
  readonly plainBytes: number
}

/**
 * Packs of chunks of a region, as they are stored there, each checked before it goes in: what is sent must not turn out to be
 * damaged at the other end. One pack is open for each domain.
 */
export class ChunkPacker {
  readonly #region: RegionStore
  readonly #packBytes: number
  readonly #signal: AbortSignal | undefined
  readonly #buffers = new Map<DomainId, PackBuffer>()

  constructor(region: RegionStore, packBytes: number, signal: AbortSignal | undefined) {
    this.#region = region
    this.#packBytes = packBytes
    this.#signal = signal
  }

  /** Of the domains of which packs were made. */
  get domains(): readonly DomainId[] {
    return [...this.#buffers.keys()]
  }

  /** Adds chunks; yields each pack that is full by it, good until the next one is asked for. Fault 'corrupt' naming a chunk. */
  async *add(ids: readonly Buffer[]): AsyncGenerator<PackBuffer> {
    const all = Buffer.concat(ids)
    const table = await this.#region.locate(all)
    const wanted: WantedChunk[] = []
    for (let position = 0; position < ids.length; position++) {
      const pack = table.packs[table.packIndex[position] ?? -1]
      if (pack === undefined) throw absentChunk(all, position)
      const offset = table.offset[position] as number
      wanted.push({ pack, offset, storedBytes: table.storedBytes[position] as number, position })
    }
    const read = (range: PackRange) =>
      this.#read(range, (position) => ({
        id: Buffer.from(all.subarray(position * ID_BYTES, (position + 1) * ID_BYTES)),
        plainBytes: table.plainBytes[position] as number,
        crc32: table.crc32[position] as number,
      }))
    const { callsMax } = this.#region.objects.traits
    for await (const [, chunks] of inOrder(mergeRanges(wanted), callsMax, read)) {
      for (const { id, domain, stored, plainBytes } of chunks) {
        const buffer = this.#bufferOf(domain)
        buffer.add(id, plainBytes, (target, offset) => {
          target.set(stored, offset)
          return stored.length
        })
        if (!buffer.isFull) continue
        yield buffer
        buffer.reset()
      }
    }
  }

  /** The packs that were begun. */
  *finish(): Generator<PackBuffer> {
    for (const buffer of this.#buffers.values()) {
      if (buffer.entries.length === 0) continue
      yield buffer
      buffer.reset()
    }
  }

  #bufferOf(domain: DomainId): PackBuffer {
    let buffer = this.#buffers.get(domain)
    if (buffer === undefined) {
      buffer = new PackBuffer(domain, this.#packBytes, CHUNK_BYTES_MAX)
      this.#buffers.set(domain, buffer)
    }
    return buffer
  }

  async #read(
    range: PackRange,
    chunkAt: (position: number) => { id: Buffer; plainBytes: number; crc32: number },
  ): Promise<ReadChunk[]> {
    const { pack, offset, lengthBytes } = range
    const domain = await this.#region.getDomain(pack.domain)
    const bytes = await this.#region.objects
      .get(packName(pack.id), offset, lengthBytes, this.#signal)
      .catch(missing)
    const check = async (chunk: WantedChunk): Promise<ReadChunk> => {
      const { id, plainBytes, crc32 } = chunkAt(chunk.position)
      const at = chunk.offset - offset
      const stored = bytes?.subarray(at, at + chunk.storedBytes)
      const plain = stored && (await openChunk(stored, { plainBytes, crc32 }, id, domain))
      if (stored !== undefined && plain !== undefined) return { id, domain: pack.domain, stored, plainBytes }
      // Damaged here, or moved by a collection meanwhile: any other place of it will do.
      const found = await findChunkIn(this.#region, id, (one) => this.#region.getDomain(one), this.#signal)
      if (found !== undefined) return { id, ...found.place, stored: found.stored }
      const place = { pack: pack.id, domain: pack.domain, offset: chunk.offset }
      throw damagedChunk({ ...place, storedBytes: chunk.storedBytes, plainBytes, crc32 }, id)
    }
    const results = await Promise.allSettled(range.chunks.map(check))
    return results.map((result) => {
      if (result.status === 'rejected') throw result.reason
      return result.value
    })
  }
}

function absentChunk(ids: Buffer, position: number): Fault {
  assert(position * ID_BYTES < ids.length)
  return new Fault('corrupt', `Chunk ${chunkIdAt(ids, position)} is in no pack of this region.`, {
    subject: 'store',
  })
}

function missing(error: unknown): undefined {
  if (error instanceof Fault && (error.kind === 'absent' || error.kind === 'corrupt')) return undefined
  throw error
}
