import { crc32 } from 'node:zlib'
import { isFault } from '../image/fault.ts'
import type { ChunkId, DomainId, PackId } from '../image/ids.ts'
import { CHUNK_BYTES_MAX } from './chunk.ts'
import { COMMITTED, CONDEMNED, guard, PENDING } from './database.ts'
import { sha256 } from './hashes.ts'
import { findLive, type PackLife } from './live.ts'
import { packName } from './names.ts'
import { PackBuffer, type PackEntry } from './pack.ts'
import type { RegionStore } from './region.ts'

export interface Rewrite {
  readonly region: RegionStore
  /** Committed packs, all of one domain. */
  readonly packs: readonly PackId[]
  /** Of this run alone; what a crash leaves of it is undone as any session's. */
  readonly sessionId: string
  /**
   * The stored form of a chunk whose bytes here are bad. Undefined: nobody has it, and its pack is left as it is.
   * Without it a pack with a bad chunk is left as it is as well.
   */
  readonly replace?: (
    id: Uint8Array,
    domain: DomainId,
  ) => Promise<{ readonly stored: Buffer; readonly plainBytes: number } | undefined>
  /** Chunks that are known to be bad though their checksum fits. */
  readonly isBad?: (id: Uint8Array) => boolean
  readonly signal?: AbortSignal
}

export interface RewriteReport {
  /** Condemned now: what was alive in them is in new packs. */
  readonly movedPacks: readonly PackId[]
  /** Left as they are, and why. */
  readonly skipped: readonly { readonly pack: PackId; readonly why: string }[]
  /** Chunks that are bad and that `replace` did not have. */
  readonly lost: readonly { readonly pack: PackId; readonly chunk: ChunkId }[]
  readonly readBytes: number
  /** Bytes of the new packs that were kept. */
  readonly writtenBytes: number
}

/** Two chunks are read at once when at most this lies between them. */
const GAP_BYTES_MAX = 256 * 1024

/**
 * Moves what is alive in packs to new packs, unchanged, and then, one transaction for each pack, binds its images to the
 * new ones and condemns it: if it is still committed, nobody holds it, and just those images bind it that were looked at.
 * Killed at any point it has moved some packs and not the others. Source: docs/store.md.
 */
export async function rewritePacks(rewrite: Rewrite): Promise<RewriteReport> {
  const { region, sessionId, signal } = rewrite
  const numbers = rewrite.packs.flatMap((pack) => region.journal.findObject(packName(pack), '')?.number ?? [])
  const lives = await findLive(region, numbers, signal)
  const domain = lives[0]?.domain
  const run = new Run(rewrite)
  if (domain === undefined) return run.report
  await region.openSession(sessionId, domain, signal)
  try {
    for (const life of lives) await run.copy(life)
    await run.seal()
    for (const life of lives) run.move(life)
  } finally {
    // What nobody came to need goes again; what was moved to is committed and stays.
    await region.abortSession(sessionId)
  }
  return run.report
}

class Run {
  readonly #rewrite: Rewrite
  readonly #region: RegionStore
  readonly #statements
  #buffer: PackBuffer | undefined
  /** The old packs whose chunks are in the buffer, or were written before under the same ids. */
  #filling = new Set<number>()
  readonly #newPacks = new Map<number, Set<number>>()
  readonly #written = new Map<string, number | 'filling'>()
  readonly #sizes = new Map<number, number>()
  readonly #kept = new Set<number>()
  readonly report = {
    movedPacks: [] as PackId[],
    skipped: [] as { pack: PackId; why: string }[],
    lost: [] as { pack: PackId; chunk: ChunkId }[],
    readBytes: 0,
    writtenBytes: 0,
  }

  constructor(rewrite: Rewrite) {
    this.#rewrite = rewrite
    this.#region = rewrite.region
    const { database } = rewrite.region
    this.#statements = {
      isOpen: database.prepare("SELECT 1 FROM session WHERE id = ? AND state = 'open'"),
      state: database.prepare('SELECT state FROM object WHERE number = ?'),
      isHeld: database.prepare('SELECT 1 FROM sessionObject WHERE object = ? LIMIT 1'),
      images: database.prepare('SELECT image FROM imageObject WHERE object = ? ORDER BY image'),
      bind: database.prepare('INSERT OR IGNORE INTO imageObject VALUES (?, ?)'),
      unbind: database.prepare('DELETE FROM imageObject WHERE object = ?'),
      condemn: database.prepare(`UPDATE object SET state = ${CONDEMNED}, sinceMs = ? WHERE number = ?`),
      commit: database.prepare(
        `UPDATE object SET state = ${COMMITTED} WHERE number = ? AND state = ${PENDING}`,
      ),
    }
  }

  /** Reads what is alive in a pack and adds it to the new ones. */
  async copy(life: PackLife): Promise<void> {
    const chunks = await this.#readAlive(life)
    if (chunks === undefined) return
    this.#newPacks.set(life.number, new Set())
    for (const { entry, stored, plainBytes } of chunks) {
      const key = entry.id.toString('latin1')
      const written = this.#written.get(key)
      if (typeof written === 'number') {
        this.#newPacks.get(life.number)?.add(written)
        continue
      }
      this.#filling.add(life.number)
      if (written === 'filling') continue
      this.#buffer ??= new PackBuffer(life.domain, this.#region.packBytes, CHUNK_BYTES_MAX)
      this.#buffer.add(entry.id, plainBytes, (target, offset) => stored.copy(target, offset))
      this.#written.set(key, 'filling')
      if (this.#buffer.isFull) await this.seal()
    }
  }

  /** Makes the pack that is being filled durable. */
  async seal(): Promise<void> {
    const buffer = this.#buffer
    if (buffer === undefined || buffer.entries.length === 0) return
    const { region, sessionId, signal } = this.#rewrite
    const bytes = buffer.seal()
    const pack = await region.putPack(sessionId, buffer.domain, bytes, buffer.entries, signal)
    const number = region.journal.findObject(packName(pack), sessionId)?.number
    if (number === undefined) throw new Error('a pack that was put is found')
    this.#sizes.set(number, bytes.length)
    for (const { id } of buffer.entries) this.#written.set(id.toString('latin1'), number)
    for (const old of this.#filling) this.#newPacks.get(old)?.add(number)
    this.#filling = new Set()
    buffer.reset()
  }

  /** One transaction: the images of a pack have the new ones in its place, and it is condemned. */
  move(life: PackLife): void {
    const targets = this.#newPacks.get(life.number)
    if (targets === undefined) return
    const why = this.#region.database.transaction((): string | undefined => {
      const { isOpen, state, isHeld, images, bind, unbind, condemn, commit } = this.#statements
      if (isOpen.get(this.#rewrite.sessionId) === undefined) return 'the rewriting session was ended'
      if (state.get(life.number)?.state !== COMMITTED) return 'it was condemned meanwhile'
      if (isHeld.get(life.number) !== undefined) return 'a writer relies on it'
      const now = images.all(life.number).map((row) => row.image as number)
      if (now.length !== life.images.length || now.some((image, i) => image !== life.images[i])) {
        return 'other images need it by now'
      }
      for (const target of targets) {
        commit.run(target)
        for (const image of life.images) bind.run(image, target)
      }
      unbind.run(life.number)
      condemn.run(this.#region.clock(), life.number)
      return undefined
    })
    if (why !== undefined) {
      this.report.skipped.push({ pack: life.pack, why })
      return
    }
    this.report.movedPacks.push(life.pack)
    for (const target of targets) {
      if (!this.#kept.has(target)) this.report.writtenBytes += this.#sizes.get(target) ?? 0
      this.#kept.add(target)
    }
  }

  /** The chunks that are alive with their stored bytes, or undefined if the pack has to stay as it is. */
  async #readAlive(life: PackLife) {
    const { replace, isBad, signal } = this.#rewrite
    if (replace === undefined && !(await this.#isSound(life))) {
      this.report.skipped.push({ pack: life.pack, why: 'it is damaged' })
      return undefined
    }
    const alive = life.entries.filter((_, position) => life.isLive[position])
    const chunks: { entry: PackEntry; stored: Buffer; plainBytes: number }[] = []
    let lostCount = 0
    for (const run of runsOf(alive)) {
      signal?.throwIfAborted()
      const bytes = await this.#read(life, run)
      for (const entry of run.entries) {
        const at = entry.offset - run.offset
        const stored = bytes?.subarray(at, at + entry.storedBytes)
        if (stored !== undefined && crc32(stored) === entry.crc32 && isBad?.(entry.id) !== true) {
          chunks.push({ entry, stored, plainBytes: entry.plainBytes })
          continue
        }
        const found = await replace?.(entry.id, life.domain)
        if (found !== undefined) chunks.push({ entry, ...found })
        else {
          lostCount++
          if (replace !== undefined) {
            this.report.lost.push({ pack: life.pack, chunk: entry.id.toString('hex') as ChunkId })
          }
        }
      }
      await new Promise(setImmediate)
    }
    if (lostCount === 0) return chunks
    this.report.skipped.push({ pack: life.pack, why: `${lostCount} of its chunks are damaged` })
    return undefined
  }

  /** Its bytes have its name: what nobody checks by key may be moved only then. */
  async #isSound({ name, pack, sizeBytes }: PackLife): Promise<boolean> {
    const { region, signal } = this.#rewrite
    this.report.readBytes += sizeBytes
    try {
      const bytes = await region.objects.get(name, 0, sizeBytes, signal)
      return sha256(bytes) === pack && (await region.objects.size(name, signal)) === sizeBytes
    } catch (error) {
      if (isFault(error, 'absent') || isFault(error, 'corrupt')) return false
      throw error
    }
  }

  async #read(life: PackLife, run: ChunkRead): Promise<Buffer | undefined> {
    const { region, signal } = this.#rewrite
    this.report.readBytes += run.lengthBytes
    try {
      return await region.objects.get(life.name, run.offset, run.lengthBytes, signal)
    } catch (error) {
      if (!isFault(error, 'absent') && !isFault(error, 'corrupt')) throw error
    }
    // Cut short somewhere: what lies before may still be there.
    const bytes = Buffer.alloc(run.lengthBytes)
    for (const { offset, storedBytes } of run.entries) {
      try {
        const one = await region.objects.get(life.name, offset, storedBytes, signal)
        one.copy(bytes, offset - run.offset)
      } catch (error) {
        if (!isFault(error, 'absent') && !isFault(error, 'corrupt')) throw error
      }
    }
    return bytes
  }
}

interface ChunkRead {
  readonly offset: number
  lengthBytes: number
  readonly entries: PackEntry[]
}

function runsOf(entries: readonly PackEntry[]): ChunkRead[] {
  const runs: ChunkRead[] = []
  for (const entry of entries) {
    const last = runs.at(-1)
    const gapBytes =
      last === undefined ? Number.POSITIVE_INFINITY : entry.offset - last.offset - last.lengthBytes
    if (last !== undefined && gapBytes <= GAP_BYTES_MAX) {
      last.lengthBytes = entry.offset + entry.storedBytes - last.offset
      last.entries.push(entry)
    } else runs.push({ offset: entry.offset, lengthBytes: entry.storedBytes, entries: [entry] })
  }
  return runs
}

/** Ids of packs by domain, for `rewritePacks`. */
export function byDomain(region: RegionStore, packs: readonly PackId[]): Map<DomainId, PackId[]> {
  const get = region.database.prepare('SELECT domain FROM object WHERE name = ?')
  return Map.groupBy(packs, (pack) => guard(() => get.get(packName(pack)))?.domain as DomainId)
}
