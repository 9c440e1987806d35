import { isFault } from '../image/fault.ts'
import type { ChunkId, DomainId, PackId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import type { DamageRow } from './damage.ts'
import { COMMITTED, CONDEMNED, guard } from './database.ts'
import { domainsOf } from './key-check.ts'
import { hashOfName } from './names.ts'
import type { OpenDomain } from './open-domain.ts'
import { readPackContent } from './pack.ts'
import { type FoundChunk, findChunk, findChunkIn } from './peer-chunk.ts'
import type { RegionStore } from './region.ts'
import { addBeside } from './repair-add.ts'
import type { RepairOptions, RepairRun } from './repair-run.ts'

/**
 * True for a pack whose header, or whose row in an index that was made from it, names a domain that its chunks are not
 * of: a bit that flipped there still makes a name.
 */
export async function isMisplaced(
  region: RegionStore,
  object: number,
  name: ObjectName,
  signal?: AbortSignal,
): Promise<boolean> {
  const row = guard(() => region.database.prepare('SELECT domain FROM object WHERE number = ?').get(object))
  const domain = row?.domain as DomainId
  try {
    const content = await readPackContent(region.objects, hashOfName(name) as PackId, signal)
    if (content.domain !== domain) return true
  } catch (error) {
    if (!isFault(error, 'corrupt') && !isFault(error, 'absent')) throw error
  }
  return (await tryDomain(region, domain)) === undefined
}

/**
 * Moves every chunk of such a pack, by the domain under whose keys it opens, and condemns the pack, unless one of them is
 * nowhere whole or a writer has come to rely on it.
 */
export async function repairMisplaced(
  options: RepairOptions,
  { object, name, message }: DamageRow,
  run: RepairRun,
): Promise<void> {
  const { region, signal } = options
  const found = new Map<string, FoundChunk>()
  let isWhole = true
  const rows = region.database.prepare('SELECT id FROM chunk WHERE object = ?')
  for (const row of guard(() => rows.all(object))) {
    const id = Buffer.from(row.id as Uint8Array)
    const chunk = (await findUnderAny(options, id, name)) ?? (await findChunk(options, id, name))
    if (chunk !== undefined) found.set(id.toString('hex'), chunk)
    else {
      isWhole = false
      run.lostChunk(id.toString('hex') as ChunkId)
    }
    signal?.throwIfAborted()
  }
  let moved: readonly number[] | undefined
  await addBeside(options, found, () => {
    const images = imagesBinding(region, object)
    moved = moved === undefined ? images : images.filter((image) => moved?.includes(image))
    return images
  })
  if (!isWhole) return
  if (condemn(region, object, moved ?? [])) run.mended(name, message)
  else run.waiting(name, 'a writer or other images need it by now')
}

/** The chunk in the pack itself, tried with the keys of every domain. */
async function findUnderAny(
  { region, signal }: RepairOptions,
  id: Uint8Array,
  name: ObjectName,
): Promise<FoundChunk | undefined> {
  for (const domain of domainsOf(region)) {
    const open = await tryDomain(region, domain)
    if (open === undefined) continue
    const find = (one: Uint8Array) =>
      region.places
        .find(one)
        .filter(({ pack }) => pack === hashOfName(name))
        .map((place) => ({ ...place, domain }))
    const found = await findChunkIn(
      { objects: region.objects, places: { find } },
      id,
      async () => open,
      signal,
    )
    if (found !== undefined) return found
  }
  return undefined
}

async function tryDomain(region: RegionStore, domain: DomainId): Promise<OpenDomain | undefined> {
  try {
    return await region.getDomain(domain)
  } catch (error) {
    if (isFault(error, 'corrupt')) return undefined
    throw error
  }
}

export function imagesBinding(region: RegionStore, object: number): number[] {
  const rows = region.database.prepare('SELECT image FROM imageObject WHERE object = ?')
  return guard(() => rows.all(object)).map((row) => row.image as number)
}

/** As the last transaction of `rewritePacks`: only if nobody holds the pack and no other image has come to bind it. */
function condemn(region: RegionStore, object: number, moved: readonly number[]): boolean {
  const { database } = region
  const isHeld = database.prepare('SELECT 1 FROM sessionObject WHERE object = ?')
  const unbind = database.prepare('DELETE FROM imageObject WHERE object = ?')
  const set = database.prepare(
    `UPDATE object SET state = ${CONDEMNED}, sinceMs = ? WHERE number = ? AND state = ${COMMITTED}`,
  )
  return database.transaction(() => {
    if (isHeld.get(object) !== undefined) return false
    if (imagesBinding(region, object).some((image) => !moved.includes(image))) return false
    if (set.run(region.clock(), object).changes === 0) return false
    unbind.run(object)
    return true
  }, true)
}
