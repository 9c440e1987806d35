import type { PackId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { CONDEMNED, guard } from './database.ts'
import { gcStatements } from './gc-rows.ts'
import { inOrder } from './in-order.ts'
import type { JournalObject } from './journal.ts'
import { findLive } from './live.ts'
import { hashOfName } from './names.ts'
import { readRefs } from './refs.ts'
import type { RegionStore } from './region.ts'
import { byDomain, rewritePacks } from './rewrite.ts'

export interface GcOptions {
  readonly region: RegionStore
  /** What was condemned longer ago than this is removed. 0: at once, in the same run. */
  readonly graceMs: number
  /** True: nothing changes, and the report says what would. */
  readonly isDryRun: boolean
  /** Sessions that no task owns any more. */
  readonly deadSessions: readonly string[]
  /** Packs of which less is alive are repacked. */
  readonly repackBelow?: number
  readonly signal?: AbortSignal
  /** In bytes of what there is to do, as far as known: it may grow. */
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void
}

export interface GcItem {
  readonly step: 'end' | 'condemn' | 'repack' | 'remove' | 'wait'
  readonly what: 'session' | 'image' | 'pack' | 'page' | 'signature' | 'ref' | 'object'
  /** A session's id, or an object's name. */
  readonly name: string
  readonly why: string
  readonly bytes: number
}

export interface GcReport {
  /** The first thousand; `itemCount` counts all. */
  readonly items: readonly GcItem[]
  readonly itemCount: number
  /** Found to be needed by nobody, in this run. */
  readonly condemnedBytes: number
  readonly removedBytes: number
  readonly removedCount: number
  /** Packs that were repacked, and the new ones in their place. */
  readonly repackedBytes: number
  readonly rewrittenBytes: number
  /** Condemned, and the grace is not over. */
  readonly waitingBytes: number
  /** Stored bytes of chunks in committed packs that images need, footers not counted, and all bytes of those packs. */
  readonly liveBytes: number
  readonly storedBytes: number
  /** The longest that a writer could have waited for this run: one transaction of it. */
  readonly longestTransactionMs: number
}

const ITEMS_MAX = 1000
/** Chunks of packs that are looked through at once: about 30 MB of memory. */
const LOOK_CHUNKS_MAX = 200_000
const CONDEMN_AT_ONCE = 50
const REMOVE_AT_ONCE = 32
const UNBIND_AT_ONCE = 250
/** Packs that one session repacks: a kill loses this much work at most. */
const REPACK_AT_ONCE = 32
const REPACK_BELOW = 0.6
const KINDS = ['packs', 'pages', 'signatures'] as const

/**
 * Removes what nobody needs, in the steps of docs/store.md. Writers go on meanwhile. Killed or cancelled at any point, the
 * next run goes on from there. One run at a time is enough for a region; two do no harm.
 */
export async function collectGarbage(options: GcOptions): Promise<GcReport> {
  const run = new Collection(options)
  await run.endSessions()
  await run.endRemovals()
  if (await run.condemnStrangers()) {
    await run.condemnImages()
    await run.condemnUnbound()
    await run.repack()
    await run.removeCondemned()
  }
  return run.report()
}

interface Row extends JournalObject {
  readonly sizeBytes: number
}

class Collection {
  readonly #region: RegionStore
  readonly #options: GcOptions
  readonly #sql
  readonly #items: GcItem[] = []
  #itemCount = 0
  #condemnedBytes = 0
  #removedBytes = 0
  #removedCount = 0
  #repackedBytes = 0
  #rewrittenBytes = 0
  #doneBytes = 0
  #totalBytes = 0
  /** Dry run: images that would be condemned, and objects that would. */
  readonly #images = new Set<number>()
  readonly #paper: Row[] = []
  /** Newer than what the index has of their holders: what they need nobody knows. */
  #damagedRefs: ReadonlySet<ObjectName> = new Set()

  constructor(options: GcOptions) {
    this.#options = options
    this.#region = options.region
    this.#sql = gcStatements(options.region.database)
    options.region.database.longest.heldMs = 0
  }

  report(): GcReport {
    const sums = guard(() => this.#sql.sums.get()) ?? {}
    const paperBytes = this.#paper.reduce((sum, row) => sum + row.sizeBytes, 0)
    const kept = this.#options.isDryRun && this.#options.graceMs > 0 ? paperBytes : 0
    return {
      items: this.#items,
      itemCount: this.#itemCount,
      condemnedBytes: this.#condemnedBytes,
      removedBytes: this.#removedBytes,
      removedCount: this.#removedCount,
      repackedBytes: this.#repackedBytes,
      rewrittenBytes: this.#rewrittenBytes,
      waitingBytes:
        Math.max(0, Number(sums.condemnedBytes ?? 0) - (this.#options.isDryRun ? this.#removedBytes : 0)) +
        kept,
      liveBytes: Number(sums.liveBytes ?? 0),
      storedBytes: Number(sums.storedBytes ?? 0),
      longestTransactionMs: this.#region.database.longest.heldMs,
    }
  }

  #add(item: GcItem): void {
    this.#itemCount++
    if (this.#items.length < ITEMS_MAX) this.#items.push(item)
  }

  #progress(doneBytes: number, moreBytes: number): void {
    this.#doneBytes += doneBytes
    this.#totalBytes += moreBytes
    this.#options.onProgress?.({ doneBytes: this.#doneBytes, totalBytes: this.#totalBytes })
  }

  async #turn(): Promise<void> {
    await new Promise(setImmediate)
    this.#options.signal?.throwIfAborted()
  }

  async endSessions(): Promise<void> {
    for (const { id, storedBytes } of this.#region.listSessions()) {
      if (!this.#options.deadSessions.includes(id)) continue
      this.#add({ step: 'end', what: 'session', name: id, why: 'no task owns it', bytes: storedBytes })
      if (!this.#options.isDryRun) await this.#region.abortSession(id, this.#options.signal)
    }
  }

  /** What was being removed when a process ended. */
  async endRemovals(): Promise<void> {
    for (const row of this.#list(this.#sql.removing)) {
      this.#add({
        step: 'remove',
        what: whatOf(row.name),
        name: row.name,
        why: 'its removal was broken off',
        bytes: row.sizeBytes,
      })
      if (!this.#options.isDryRun) await this.#region.erase(row, this.#options.signal)
    }
  }

  /**
   * Objects that the index does not know become condemned ones, whose grace begins now. False where the index cannot be
   * believed to know everything that is needed: then nothing may be condemned.
   */
  async condemnStrangers(): Promise<boolean> {
    const { region, signal, isDryRun } = this.#options
    const { database } = region
    const strange: ObjectName[] = []
    for (const prefix of ['images', 'refs', ...KINDS]) {
      for await (const name of region.objects.list(`${prefix}/`, signal)) {
        if (guard(() => this.#sql.known.get(name)) === undefined) strange.push(name)
      }
    }
    // What a rebuild did not see was missing from its lists, and what it needs would look needless.
    const unseen = strange.find((name) => name.startsWith('images/') || name.startsWith('refs/'))
    const isUnsure = database.getMeta('rebuilt') !== undefined && unseen !== undefined
    const doubt = isUnsure ? `${unseen} was not seen when the index was made` : undefined
    const incomplete = database.getMeta('incomplete') ?? doubt
    if (incomplete !== undefined && !isDryRun) {
      database.transaction(() => database.setMeta('incomplete', incomplete))
    }
    if (incomplete !== undefined) {
      const why = `${incomplete}: repair with "calotype store scrub --repair", then "calotype store rebuild-index"`
      this.#add({ step: 'wait', what: 'object', name: 'everything', why, bytes: 0 })
      return false
    }
    if (!isDryRun) database.setMeta('rebuilt', undefined)
    const sizeOf = (name: ObjectName) => region.objects.size(name, signal)
    for await (const [name, sizeBytes] of inOrder(strange, region.objects.traits.callsMax, sizeOf)) {
      // A list may show what is gone.
      if (sizeBytes === undefined) continue
      this.#condemnedBytes += sizeBytes
      const why = 'no session and no image knows it'
      this.#add({ step: 'condemn', what: whatOf(name), name, why, bytes: sizeBytes })
      if (isDryRun) this.#paper.push({ number: -1, name, sizeBytes })
      // If a writer has come to intend it meanwhile, it is his.
      else database.transaction(() => this.#sql.addStranger.run(name, sizeBytes, region.clock()))
    }
    return true
  }

  /** Images that nobody refers to. If some ref cannot be read, nobody can tell, and none is condemned. */
  async condemnImages(): Promise<void> {
    const { region, isDryRun } = this.#options
    const damaged = await this.#checkRefs()
    this.#damagedRefs = new Set(damaged)
    for (const row of this.#list(this.#sql.unneededImages)) {
      if (damaged.length > 0) {
        const why = `${damaged[0]} is damaged: it may need this image. Repair it, or remove it`
        this.#add({ step: 'wait', what: 'image', name: row.name, why, bytes: row.sizeBytes })
        continue
      }
      this.#images.add(row.number)
      if (isDryRun) this.#paper.push(row)
      else {
        // On the disk before anything that the image needed is touched.
        const changes = region.database.transaction(
          () => this.#sql.condemnImage.run(region.clock(), row.number).changes,
          true,
        )
        if (changes === 0) continue
      }
      this.#condemnedBytes += row.sizeBytes
      this.#add({
        step: 'condemn',
        what: 'image',
        name: row.name,
        why: 'nobody refers to it',
        bytes: row.sizeBytes,
      })
    }
    if (isDryRun) return
    for (const { number } of this.#list(this.#sql.boundImages)) {
      for (let isDone = false; !isDone; ) {
        isDone = region.database.transaction(() => {
          // Somebody may write the same image again, and then it needs what it needs.
          if (this.#sql.stateOf.get(number)?.state !== CONDEMNED) return true
          const bound = this.#sql.boundBy.all(number, UNBIND_AT_ONCE)
          for (const { object } of bound) {
            this.#sql.forgetLive.run(object as number)
            this.#sql.unbind.run(number, object as number)
          }
          return bound.length < UNBIND_AT_ONCE
        })
        await this.#turn()
      }
    }
  }

  /**
   * Refs whose rows the index lacks: one that can be read by now gets its rows, of the others the names are answered.
   */
  async #checkRefs(): Promise<ObjectName[]> {
    const { region, signal, isDryRun } = this.#options
    const unnamed = new Map(this.#list(this.#sql.unnamedRefs).map((row) => [row.name, row]))
    if (unnamed.size === 0) return []
    const damaged: ObjectName[] = []
    for await (const read of readRefs(region.objects, signal)) {
      if (!unnamed.has(read.name)) continue
      if ('message' in read) damaged.push(read.name)
      else if (!isDryRun) {
        const { holder, digests } = read.ref
        region.database.transaction(() => {
          for (const digest of digests) this.#sql.addRef.run(holder, digest, read.name)
        }, true)
      }
    }
    return damaged
  }

  /** Packs, pages, signatures that no image binds, and refs that were replaced. */
  async condemnUnbound(): Promise<void> {
    const { region, isDryRun } = this.#options
    for (const kind of [...KINDS, 'refs'] as const) {
      const isRef = kind === 'refs'
      const why = isRef ? 'a later one replaced it' : 'no image needs it'
      const rows = isRef
        ? this.#list(this.#sql.replacedRefs).filter((row) => !this.#damagedRefs.has(row.name))
        : this.#listUnbound(kind)
      for (let at = 0; at < rows.length; at += CONDEMN_AT_ONCE) {
        const some = rows.slice(at, at + CONDEMN_AT_ONCE)
        const isCondemned = (row: Row) =>
          (isRef ? this.#sql.condemnRef : this.#sql.condemn).run(region.clock(), row.number).changes === 1
        const gone = isDryRun ? some : region.database.transaction(() => some.filter(isCondemned))
        for (const row of gone) {
          if (isDryRun) this.#paper.push(row)
          this.#condemnedBytes += row.sizeBytes
          this.#add({ step: 'condemn', what: whatOf(row.name), name: row.name, why, bytes: row.sizeBytes })
        }
        await this.#turn()
      }
    }
  }

  /** On paper the condemned images are still bound: what only they bind is unbound. */
  #listUnbound(kind: (typeof KINDS)[number]): Row[] {
    const images = JSON.stringify(this.#options.isDryRun ? [...this.#images] : [])
    return guard(() => this.#sql.unbound.all(`${kind}/`, `${kind}0`, images)) as unknown as Row[]
  }

  async repack(): Promise<void> {
    const { region, signal, isDryRun } = this.#options
    const below = this.#options.repackBelow ?? REPACK_BELOW
    await this.#look()
    const rows = guard(() => this.#sql.sparse.all(below)) as unknown as (Row & { liveBytes: number })[]
    const paper = new Set(this.#paper.map((row) => row.number))
    const wanted = rows.filter((row) => !paper.has(row.number))
    this.#progress(
      0,
      wanted.reduce((sum, row) => sum + row.sizeBytes, 0),
    )
    const sizes = new Map(wanted.map((row) => [hashOfName(row.name) as PackId, row]))
    if (isDryRun) {
      for (const row of wanted) this.#addRepack(row.name, row)
      return
    }
    for (const packs of byDomain(region, [...sizes.keys()]).values()) {
      for (let at = 0; at < packs.length; at += REPACK_AT_ONCE) {
        const some = packs.slice(at, at + REPACK_AT_ONCE)
        const sessionId = `gc-${region.clock()}-${Math.random().toString(36).slice(2)}`
        const done = await rewritePacks({
          region,
          packs: some,
          sessionId,
          ...(signal === undefined ? {} : { signal }),
        })
        for (const pack of done.movedPacks) {
          const row = sizes.get(pack)
          if (row === undefined) continue
          this.#condemnedBytes += row.sizeBytes
          this.#repackedBytes += row.sizeBytes
          this.#addRepack(row.name, row)
        }
        for (const { pack, why } of done.skipped) {
          this.#add({
            step: 'wait',
            what: 'pack',
            name: `${sizes.get(pack)?.name}`,
            why,
            bytes: sizes.get(pack)?.sizeBytes ?? 0,
          })
        }
        this.#rewrittenBytes += done.writtenBytes
        this.#progress(
          some.reduce((sum, pack) => sum + (sizes.get(pack)?.sizeBytes ?? 0), 0),
          0,
        )
        await this.#turn()
      }
    }
  }

  #addRepack(name: ObjectName, row: Row & { readonly liveBytes: number }): void {
    const percent = Math.round((100 * row.liveBytes) / row.sizeBytes)
    this.#add({
      step: 'repack',
      what: 'pack',
      name,
      why: `${percent} % of it is needed`,
      bytes: row.sizeBytes,
    })
  }

  /** Finds out how much is alive of packs that were bound or unbound since the last look. */
  async #look(): Promise<void> {
    const { region, signal } = this.#options
    const rows = guard(() => this.#sql.unlooked.all()) as unknown as { number: number; chunkCount: number }[]
    for (let at = 0; at < rows.length; ) {
      const numbers: number[] = []
      // A chunk takes some kilobytes at least, mostly: a guess is enough, memory is what it is about.
      for (let count = 0; at < rows.length && count < LOOK_CHUNKS_MAX; at++) {
        numbers.push(rows[at]?.number as number)
        count += rows[at]?.chunkCount as number
      }
      const lives = await findLive(region, numbers, signal)
      for (const life of lives) {
        // Header and footer count where all of it is needed, else a small pack would be moved again and again.
        const isAll = !life.isWhole || !life.isLive.includes(false)
        const liveBytes = isAll
          ? life.sizeBytes
          : life.entries.reduce((sum, entry, i) => sum + (life.isLive[i] === true ? entry.storedBytes : 0), 0)
        if (!life.isWhole) {
          const why = 'it cannot be read: run "calotype store scrub --repair"'
          this.#add({ step: 'wait', what: 'pack', name: life.name, why, bytes: life.sizeBytes })
        }
        region.database.transaction(() => this.#sql.setLive.run(liveBytes, life.number))
      }
      await this.#turn()
    }
  }

  async removeCondemned(): Promise<void> {
    const { region, signal, isDryRun, graceMs } = this.#options
    const untilMs = region.clock() - graceMs
    const rows = guard(() => this.#sql.condemned.all(untilMs)) as unknown as Row[]
    const why = graceMs > 0 ? 'its grace is over' : 'there is no grace'
    if (isDryRun) {
      for (const row of [...rows, ...(graceMs > 0 ? [] : this.#paper)]) this.#countRemoved(row, why)
      return
    }
    this.#progress(
      0,
      rows.reduce((sum, row) => sum + row.sizeBytes, 0),
    )
    for (let at = 0; at < rows.length; at += REMOVE_AT_ONCE) {
      const some = rows.slice(at, at + REMOVE_AT_ONCE)
      const going = region.database.transaction(
        () => some.filter(({ number }) => this.#sql.remove.run(number, untilMs).changes === 1),
        true,
      )
      const erase = (row: Row) => region.erase(row, signal)
      for await (const [row] of inOrder(going, region.objects.traits.callsMax, erase))
        this.#countRemoved(row, why)
      this.#progress(
        some.reduce((sum, row) => sum + row.sizeBytes, 0),
        0,
      )
      await this.#turn()
    }
  }

  #countRemoved(row: Row, why: string): void {
    this.#removedBytes += row.sizeBytes
    this.#removedCount++
    this.#add({ step: 'remove', what: whatOf(row.name), name: row.name, why, bytes: row.sizeBytes })
  }

  #list(statement: { all(): unknown[] }): Row[] {
    return guard(() => statement.all()) as Row[]
  }
}

function whatOf(name: ObjectName): GcItem['what'] {
  const kind = name.slice(0, name.indexOf('/'))
  const words = {
    packs: 'pack',
    pages: 'page',
    signatures: 'signature',
    images: 'image',
    refs: 'ref',
  } as const
  return words[kind as keyof typeof words] ?? 'object'
}
