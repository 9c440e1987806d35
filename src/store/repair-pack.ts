import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { isFault } from '../image/fault.ts'
import type { PackId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import type { DamageRow } from './damage.ts'
import { guard } from './database.ts'
import { hashOfName, packName } from './names.ts'
import { type ChunkSource, type FoundChunk, findChunk, findChunkIn, sealAnew } from './peer-chunk.ts'
import type { RegionStore } from './region.ts'
import { addBeside, newSession } from './repair-add.ts'
import { imagesBinding, isMisplaced, repairMisplaced } from './repair-misplaced.ts'
import type { RepairOptions, RepairRun } from './repair-run.ts'
import { rewritePacks } from './rewrite.ts'

const PART_BYTES = 4 * 1024 * 1024

/**
 * A damaged pack: what is alive in it goes to new packs, its bad chunks from wherever they are whole, and it is
 * condemned. If nobody has one of them it stays, because the chunk may still come; what others have of its bad chunks is
 * written to a pack beside it. `rows` are all of this pack.
 */
export async function repairPack(
  options: RepairOptions,
  rows: readonly DamageRow[],
  run: RepairRun,
): Promise<void> {
  const { region, signal } = options
  const [first] = rows
  assert(first !== undefined)
  if (!isKnown(region, first.object)) {
    // Made out by a rebuild of the index, which could read none of it: what images need of it is fetched for them.
    run.waiting(first.name, 'nothing is known of what it holds; a collection removes it')
    return
  }
  if (await isMisplaced(region, first.object, first.name, signal)) {
    return repairMisplaced(options, first, run)
  }
  const bad = await recheck(options, rows, run)
  if (bad === undefined) return
  const found = new Map<string, FoundChunk & { readonly isOwn: boolean }>()
  const pack = hashOfName(first.name) as PackId
  // One chunk is sealed anew, so that the new pack is another one than the old.
  let anew: string | undefined
  const { movedPacks, lost, skipped } = await rewritePacks({
    region,
    packs: [pack],
    sessionId: newSession(),
    isBad: (id) => {
      anew ??= hexOf(id)
      return bad.has(hexOf(id)) || anew === hexOf(id)
    },
    replace: async (id, domain) => {
      anew ??= hexOf(id)
      const open = await region.getDomain(domain)
      const good = bad.has(hexOf(id))
        ? undefined
        : await findChunkIn(onlyIn(region, pack), id, async () => open)
      const chunk = good ?? (await findChunk(options, id, first.name))
      if (chunk === undefined) return undefined
      if (good === undefined) found.set(hexOf(id), { isOwn: false, ...chunk })
      const stored = anew === hexOf(id) ? sealAnew(chunk.plain, id, open) : chunk.stored
      return { stored, plainBytes: chunk.plain.length }
    },
    ...(signal === undefined ? {} : { signal }),
  })
  if (movedPacks.length > 0) {
    run.mended(first.name, first.message)
    return
  }
  for (const { chunk } of lost) run.lostChunk(chunk)
  if (lost.length === 0) {
    for (const { why } of skipped) run.waiting(first.name, why)
    return
  }
  const images = () => imagesBinding(region, first.object)
  const chunks = [...found].filter(
    ([, { isOwn, place }]) => !isOwn || !isBeside(region, first.object, place.pack),
  )
  await addBeside(options, new Map(chunks), images)
}

/**
 * What is still bad of what is listed, the ids of chunks as text; undefined if nothing is. A bad cable or memory may have
 * been at fault when it was listed, and is no reason to write packs.
 */
async function recheck(
  { region, signal }: RepairOptions,
  rows: readonly DamageRow[],
  run: RepairRun,
): Promise<Set<string> | undefined> {
  const bad = new Set<string>()
  let isWhole = true
  for (const { object, name, chunk } of rows) {
    if (chunk === undefined) {
      isWhole = await hasItsName(region, name, signal)
      if (isWhole) run.damage.forget(object)
      continue
    }
    const whole = await findChunkIn(
      onlyIn(region, hashOfName(name) as PackId),
      chunk,
      (domain) => region.getDomain(domain),
      signal,
    )
    if (whole === undefined) bad.add(hexOf(chunk))
    else run.damage.forget(object, chunk)
  }
  return isWhole && bad.size === 0 ? undefined : bad
}

/** The region as if it had this pack alone. */
function onlyIn(region: RegionStore, pack: PackId): ChunkSource {
  const find = (id: Uint8Array) => region.places.find(id).filter((place) => place.pack === pack)
  return { objects: region.objects, places: { find } }
}

async function hasItsName(
  region: RegionStore,
  name: ObjectName,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    const sizeBytes = await region.objects.size(name, signal)
    const hash = createHash('sha256')
    for (let at = 0; at < (sizeBytes ?? 0); at += PART_BYTES) {
      const lengthBytes = Math.min(PART_BYTES, (sizeBytes ?? 0) - at)
      hash.update(await region.objects.get(name, at, lengthBytes, signal))
    }
    return hash.digest('hex') === hashOfName(name)
  } catch (error) {
    if (isFault(error, 'corrupt') || isFault(error, 'absent')) return false
    throw error
  }
}

/** False for a pack of which the index has not even the domain. */
function isKnown(region: RegionStore, object: number): boolean {
  const sql = 'SELECT domain FROM object WHERE number = ?'
  return guard(() => region.database.prepare(sql).get(object))?.domain !== null
}

/** True if every image that binds the damaged pack binds this other one of the region as well. */
function isBeside(region: RegionStore, damaged: number, pack: PackId): boolean {
  const sql = `SELECT 1 FROM imageObject a WHERE a.object = ?1 AND NOT EXISTS (
    SELECT 1 FROM imageObject b JOIN object o ON o.number = b.object WHERE b.image = a.image AND o.name = ?2)`
  return guard(() => region.database.prepare(sql).get(damaged, packName(pack))) === undefined
}

const hexOf = (id: Uint8Array) => Buffer.from(id).toString('hex')
