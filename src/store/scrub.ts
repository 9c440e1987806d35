import { createHash } from 'node:crypto'
import type { StatementSync } from 'node:sqlite'
import { setTimeout as delay } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import { Fault, isFault } from '../image/fault.ts'
import type { Digest, PackId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { Damage, type DamageFinding } from './damage.ts'
import { COMMITTED, guard } from './database.ts'
import { checkKeys } from './key-check.ts'
import { hashOfName } from './names.ts'
import { type PackEntry, readPackContent } from './pack.ts'
import { readRef } from './refs.ts'
import type { RegionStore } from './region.ts'
import { readSignature } from './signature.ts'

export interface ScrubOptions {
  readonly region: RegionStore
  /** How much it reads at most; without it as much as the disk gives. */
  readonly bytesPerSecond?: number
  /** What was verified less long ago is left out: with it a scrub that was cut short goes on where it was. */
  readonly olderThanMs?: number
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void
  readonly clock?: () => number
  readonly pause?: (ms: number, signal?: AbortSignal) => Promise<void>
}

export interface ScrubReport {
  readonly checkedCount: number
  readonly checkedBytes: number
  /** Objects that are damaged or missing, the first thousand of them. */
  readonly damaged: readonly { readonly name: string; readonly message: string }[]
  readonly damagedCount: number
}

const DAMAGED_MAX = 1000
const PART_BYTES = 4 * 1024 * 1024
/** Sound objects whose dates are recorded together. After a crash so many small ones are read once more. */
const RECORDS_AT_ONCE = 64

/**
 * Reads every committed object once, those first that were never verified, then by the date of the last time, and checks
 * what can be checked without any key: hashes, checksums, forms, and that it is there. Records when, and lists what is
 * damaged (`Damage`), packs down to the chunk. Memory is one part of a pack; others on the thread get their turn.
 * Faults: 'unavailable' if the store does not answer; what was done until then stays done.
 */
export async function scrub(options: ScrubOptions): Promise<ScrubReport> {
  const run = new Scrub(options)
  await run.keys()
  await run.objects()
  return run.report()
}

class Scrub {
  readonly #region: RegionStore
  readonly #options: ScrubOptions
  readonly #clock: () => number
  readonly #pace: Pace | undefined
  readonly #damage: Damage
  readonly #damaged: { name: string; message: string }[] = []
  readonly #getObject: StatementSync
  readonly #setVerified: StatementSync
  /** Numbers of objects that were checked and are not recorded yet, and whether they are sound. */
  #unrecorded: { number: number; isSound: boolean }[] = []
  #damagedCount = 0
  #checkedCount = 0
  #checkedBytes = 0

  constructor(options: ScrubOptions) {
    const { region, bytesPerSecond, clock = options.region.clock, pause = wait } = options
    this.#region = region
    this.#options = options
    this.#clock = clock
    this.#pace = bytesPerSecond === undefined ? undefined : new Pace(bytesPerSecond, clock, pause)
    this.#damage = new Damage(region.database)
    this.#getObject = region.database.prepare(
      `SELECT name, sizeBytes FROM object WHERE number = ? AND state = ${COMMITTED}`,
    )
    this.#setVerified = region.database.prepare('UPDATE object SET verifiedAtMs = ? WHERE number = ?')
  }

  report(): ScrubReport {
    return {
      checkedCount: this.#checkedCount,
      checkedBytes: this.#checkedBytes,
      damaged: this.#damaged,
      damagedCount: this.#damagedCount,
    }
  }

  #add(name: string, message: string): void {
    this.#damagedCount++
    if (this.#damaged.length < DAMAGED_MAX) this.#damaged.push({ name, message })
  }

  async keys(): Promise<void> {
    for (const { domain, message } of await checkKeys(this.#region, this.#options.signal)) {
      this.#add(`keys/${domain}`, message)
    }
  }

  async objects(): Promise<void> {
    const { olderThanMs = 0, signal, onProgress } = this.#options
    const { numbers, totalBytes } = this.#due(this.#clock() - olderThanMs)
    let doneBytes = 0
    try {
      for (const number of numbers) {
        signal?.throwIfAborted()
        const row = guard(() => this.#getObject.get(number))
        // Condemned or gone since the list was made.
        if (row === undefined) continue
        await this.#object(number, row.name as ObjectName)
        doneBytes += row.sizeBytes as number
        onProgress?.({ doneBytes: Math.min(doneBytes, totalBytes), totalBytes })
      }
    } finally {
      this.#record()
    }
    onProgress?.({ doneBytes: totalBytes, totalBytes })
  }

  /** What is to be read, in this order. Numbers alone, so that a region of millions of objects is no burden. */
  #due(beforeMs: number): { numbers: number[]; totalBytes: number } {
    const rows = this.#region.database.prepare(
      `SELECT number, sizeBytes FROM object WHERE state = ${COMMITTED} AND coalesce(verifiedAtMs, -1) <= ?
       ORDER BY verifiedAtMs, number`,
    )
    let totalBytes = 0
    const numbers = guard(() => rows.all(beforeMs)).map((row) => {
      totalBytes += row.sizeBytes as number
      return row.number as number
    })
    return { numbers, totalBytes }
  }

  async #object(number: number, name: ObjectName): Promise<void> {
    const message = await this.#check(name)
    this.#checkedCount++
    if (message === undefined) {
      this.#unrecorded.push({ number, isSound: true })
      if (this.#unrecorded.length >= RECORDS_AT_ONCE || name.startsWith('packs/')) this.#record()
      return
    }
    const chunks = name.startsWith('packs/') ? await this.#badChunks(number, name) : []
    this.#damage.note(name, [{ message }, ...chunks], this.#clock())
    // Missing, because it was collected while we looked: nothing is listed, and nothing is wrong.
    if (!this.#region.journal.isCommitted(name)) return
    this.#add(name, message)
    this.#unrecorded.push({ number, isSound: false })
    this.#record()
  }

  /** What is wrong with the object as a whole, or undefined. */
  async #check(name: ObjectName): Promise<string | undefined> {
    const { objects } = this.#region
    const { signal } = this.#options
    try {
      if (/^(packs|pages|images)\//.test(name)) return await this.#checkHash(name)
      const sizeBytes = await objects.size(name, signal)
      if (name.startsWith('signatures/')) await readSignature(objects, hashOfName(name) as Digest, signal)
      else if (name.startsWith('refs/')) await readRef(objects, name, signal)
      else return undefined
      await this.#spend(sizeBytes ?? 0)
      return undefined
    } catch (error) {
      return messageOf(error)
    }
  }

  async #checkHash(name: ObjectName): Promise<string | undefined> {
    const { objects } = this.#region
    const { signal } = this.#options
    const sizeBytes = await objects.size(name, signal)
    if (sizeBytes === undefined) return `The object ${name} is missing.`
    const hash = createHash('sha256')
    for (let at = 0; at < sizeBytes; at += PART_BYTES) {
      const lengthBytes = Math.min(PART_BYTES, sizeBytes - at)
      hash.update(await objects.get(name, at, lengthBytes, signal))
      await this.#spend(lengthBytes)
    }
    return hash.digest('hex') === hashOfName(name)
      ? undefined
      : `The object ${name} is damaged: its bytes do not have its name.`
  }

  /** The chunks of a damaged pack that are wrong themselves, as far as their checksums tell. */
  async #badChunks(number: number, name: ObjectName): Promise<DamageFinding[]> {
    const bad: DamageFinding[] = []
    for (const entry of await this.#entriesOf(number, name)) {
      if (await this.#isRight(name, entry)) continue
      const text = Buffer.from(entry.id).toString('hex')
      bad.push({ chunk: entry.id, message: `Chunk ${text} at byte ${entry.offset} of ${name} is damaged.` })
    }
    return bad
  }

  /** What should be in the pack: by its footer or, where that is gone, by the index. */
  async #entriesOf(number: number, name: ObjectName): Promise<readonly Omit<PackEntry, 'plainBytes'>[]> {
    try {
      const pack = hashOfName(name) as PackId
      return (await readPackContent(this.#region.objects, pack, this.#options.signal)).entries
    } catch (error) {
      messageOf(error)
    }
    const rows = this.#region.database.prepare(
      'SELECT id, offset, storedBytes, crc32 FROM chunk WHERE object = ?',
    )
    return guard(() => rows.all(number)).map((row) => ({
      id: Buffer.from(row.id as Uint8Array),
      offset: row.offset as number,
      storedBytes: row.storedBytes as number,
      crc32: row.crc32 as number,
    }))
  }

  async #isRight(name: ObjectName, entry: Omit<PackEntry, 'plainBytes'>): Promise<boolean> {
    const { offset, storedBytes } = entry
    try {
      const stored = await this.#region.objects.get(name, offset, storedBytes, this.#options.signal)
      await this.#spend(storedBytes)
      return crc32(stored) === entry.crc32
    } catch (error) {
      messageOf(error)
      return false
    }
  }

  async #spend(lengthBytes: number): Promise<void> {
    this.#checkedBytes += lengthBytes
    await new Promise(setImmediate)
    this.#options.signal?.throwIfAborted()
    await this.#pace?.spend(lengthBytes, this.#options.signal)
  }

  #record(): void {
    const records = this.#unrecorded
    if (records.length === 0) return
    this.#unrecorded = []
    this.#region.database.transaction(() => {
      for (const { number } of records) this.#setVerified.run(this.#clock(), number)
    })
    // What was said of single chunks stays: only who has the keys can take that back.
    for (const { number, isSound } of records)
      if (isSound && this.#damage.isListed(number)) this.#damage.forget(number)
  }
}

/** What is wrong with the object; a store that does not answer says nothing about it. */
function messageOf(error: unknown): string {
  if (isFault(error, 'corrupt') || isFault(error, 'absent')) return error.message
  throw error
}

/** Spreads bytes evenly over time: what was not used in one second cannot be made up for in the next. */
class Pace {
  readonly #bytesPerMs: number
  readonly #clock: () => number
  readonly #pause: (ms: number, signal?: AbortSignal) => Promise<void>
  #freeAtMs: number

  constructor(bytesPerSecond: number, clock: () => number, pause: Pace['spend']) {
    if (!(bytesPerSecond > 0)) {
      throw new Fault('invalid', 'A scrub reads more than 0 bytes per second.', { subject: 'store' })
    }
    this.#bytesPerMs = bytesPerSecond / 1000
    this.#clock = clock
    this.#pause = pause
    this.#freeAtMs = clock()
  }

  async spend(lengthBytes: number, signal?: AbortSignal): Promise<void> {
    const nowMs = this.#clock()
    this.#freeAtMs = Math.max(nowMs, this.#freeAtMs) + lengthBytes / this.#bytesPerMs
    if (this.#freeAtMs > nowMs) await this.#pause(this.#freeAtMs - nowMs, signal)
  }
}

async function wait(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, signal === undefined ? {} : { signal })
}
