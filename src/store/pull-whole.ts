import { createHash } from 'node:crypto'
import { inOrder } from './in-order.ts'
import { packName } from './names.ts'
import { PACK_HEADER_BYTES, type PackEntry, packBytesOf, parsePackContent } from './pack.ts'
import { pageMemory } from './page-memory.ts'
import type { PullOptions, RunningHash } from './pull-options.ts'
import type { WantedChunk } from './ranges.ts'
import { missingOrCut } from './read-chunk.ts'
import type { PackRef } from './source.ts'

/** A pack of the source of which every chunk is wanted. */
export interface WantedPack {
  readonly pack: PackRef
  readonly sizeBytes: number
  readonly chunks: readonly WantedChunk[]
}

/** Reads at once: out of the page cache two are faster than the hash, which more of them would only keep from the processor. */
const READS_MAX = 2
const READ_BYTES = 2 * 1024 * 1024
/** Hashed at a time where this thread hashes, in a third of a millisecond: it also writes packs, in many small steps. */
const HASHED_BYTES = 512 * 1024
/** A pack is sealed when it has reached its size: its last chunk and its footer come on top. */
const PACK_SLACK_BYTES = 1024 * 1024

/**
 * Packs taken as they are, of a source of this host whose writers are our own: their hash is their name, so one pass over
 * the bytes proves that they are what was written, and nothing has to be packed anew. Several are moved at once, as many
 * as the caller lets in: one is read and hashed while others are made durable, so the disk has always something to do. Two that
 * are read at once would both come late.
 */
export class WholePacks {
  readonly #options: PullOptions
  readonly #spare: Buffer[] = []
  /** Settles when what was asked for so far is read. Never rejects. */
  #reading: Promise<unknown> = Promise.resolve()
  /** Of the chunks in packs that are durable. */
  durableBytes = 0
  /** Of packs that were read, right or wrong. */
  movedBytes = 0

  constructor(options: PullOptions) {
    this.#options = options
  }

  /** Which packs are wanted whole, and the chunks that lie elsewhere. */
  async split(wanted: readonly WantedChunk[]): Promise<{ packs: WantedPack[]; rest: WantedChunk[] }> {
    const { source, signal } = this.#options
    const rest: WantedChunk[] = []
    const whole: WantedPack[] = []
    const looked = inOrder(
      Map.groupBy(wanted, ({ pack }) => pack),
      READS_MAX,
      async ([pack, chunks]) => {
        const sizeBytes = wholeBytes(chunks)
        if (sizeBytes === undefined) return undefined
        const found = await source.objects.size(packName(pack.id), signal)
        return found === sizeBytes ? sizeBytes : undefined
      },
    )
    for await (const [[pack, chunks], sizeBytes] of looked) {
      if (sizeBytes === undefined) for (const chunk of chunks) rest.push(chunk)
      else whole.push({ pack, sizeBytes, chunks })
    }
    return { packs: whole, rest }
  }

  /**
   * The pack is durable in the target when it resolves to true. False where anything about it is wrong, or it holds another chunk
   * than the one that is wanted of a place: then its chunks are to be looked at one by one.
   */
  async move(wanted: WantedPack, idOf: (chunk: WantedChunk) => Uint8Array): Promise<boolean> {
    const { target, sessionId, signal } = this.#options
    const { pack, sizeBytes, chunks } = wanted
    const memory = this.#takeMemory(sizeBytes)
    const bytes = memory.subarray(0, sizeBytes)
    try {
      const entries = await this.#read(pack, bytes).catch(missingOrCut)
      const isWanted = (entry: PackEntry, i: number) => entry.id.equals(idOf(chunks[i] as WantedChunk))
      if (entries?.length !== chunks.length || !entries.every(isWanted)) return false
      await target.putPack(sessionId, pack.domain, bytes, entries, signal, pack.id)
      this.durableBytes += chunks.reduce((sum, { storedBytes }) => sum + storedBytes, 0)
      return true
    } finally {
      this.#spare.push(memory)
    }
  }

  /** Fills `bytes` with the pack, and answers what is in it once they are proven; undefined where they are not. */
  async #read(pack: PackRef, bytes: Buffer): Promise<readonly PackEntry[] | undefined> {
    const turn = this.#reading.then(() => this.#fill(pack, bytes))
    this.#reading = turn.catch(() => {})
    // The next pack is read while the last bytes of this one are hashed.
    const { digest } = await turn
    if ((await digest) !== pack.id) return undefined
    const { domain, entries } = parsePackContent(pack.id, bytes)
    return domain === pack.domain ? entries : undefined
  }

  /** Reads all of the pack; its digest may come later. */
  async #fill(pack: PackRef, bytes: Buffer): Promise<{ readonly digest: Promise<string> }> {
    const { source, signal } = this.#options
    const offsets = Array.from({ length: Math.ceil(bytes.length / READ_BYTES) }, (_, i) => i * READ_BYTES)
    const name = packName(pack.id)
    const read = async (offset: number) => {
      const piece = bytes.subarray(offset, offset + READ_BYTES)
      if (source.objects.getInto !== undefined) await source.objects.getInto(name, offset, piece, signal)
      else piece.set(await source.objects.get(name, offset, piece.length, signal))
      return piece
    }
    const hash = this.#beginHash()
    for await (const [, piece] of inOrder(offsets, READS_MAX, read)) {
      signal?.throwIfAborted()
      await hash.update(piece)
    }
    this.movedBytes += bytes.length
    const digest = hash.digest()
    // Awaited in a moment; until then a failure must not count as unhandled.
    digest.catch(() => {})
    return { digest }
  }

  #beginHash(): RunningHash {
    const { hashBeside, signal } = this.#options
    if (hashBeside !== undefined) return hashBeside()
    const hash = createHash('sha256')
    return {
      async update(piece) {
        for (let at = 0; at < piece.length; at += HASHED_BYTES) {
          hash.update(piece.subarray(at, at + HASHED_BYTES))
          await new Promise(setImmediate)
          signal?.throwIfAborted()
        }
      },
      digest: async () => hash.digest('hex'),
    }
  }

  /** Used again and again, by direct writes and by the thread that hashes. */
  #takeMemory(sizeBytes: number): Buffer {
    const spare = this.#spare.pop()
    if (spare !== undefined && spare.length >= sizeBytes) return spare
    const usualBytes = this.#options.target.packBytes + PACK_SLACK_BYTES
    return pageMemory(Math.max(sizeBytes, usualBytes), this.#options.hashBeside !== undefined)
  }
}

/** The length of a pack that consists of these chunks and no others; undefined where there must be others. */
function wholeBytes(chunks: WantedChunk[]): number | undefined {
  chunks.sort((a, b) => a.offset - b.offset)
  let end = PACK_HEADER_BYTES
  for (const { offset, storedBytes } of chunks) {
    if (offset !== end) return undefined
    end += storedBytes
  }
  return packBytesOf(end, chunks.length)
}
