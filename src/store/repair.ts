import type { ChunkId, Digest } from '../image/ids.ts'
import { Damage, type DamageRow } from './damage.ts'
import { locateChunks } from './locate.ts'
import { hashOfName, signatureName } from './names.ts'
import { repairBinds } from './repair-binds.ts'
import { readRight, repairKeys, repairObject, repairRef, tellLostKeys } from './repair-object.ts'
import { repairPack } from './repair-pack.ts'
import type { LostPart, RepairOptions, RepairReport, RepairRun } from './repair-run.ts'

export type { LostPart, RepairOptions, RepairReport } from './repair-run.ts'

const LISTED_MAX = 1000

/**
 * Mends what is listed as damaged (`Damage`), and the domains' keys, from the peers, and names what none of them has by
 * image, disk and byte. A peer's bytes are believed only if hash, signature or keyed id fit. What turns out to be whole is
 * taken off the list. May run again at any time and be killed at any point: what is readable before is readable after.
 * Faults: 'denied' without the region's key; 'full'; 'unavailable' if this region's own objects do not answer. A
 * peer that does not answer is passed over.
 */
export async function repair(options: RepairOptions): Promise<RepairReport> {
  const { region, signal } = options
  const lostChunks = new Set<ChunkId>()
  const report = {
    mended: [] as { name: string; message: string }[],
    mendedCount: 0,
    lost: [] as LostPart[],
    lostCount: 0,
    waiting: [] as { name: string; why: string }[],
    unlabelledHolders: [] as string[],
  }
  const run: RepairRun = {
    damage: new Damage(region.database),
    mended(name, message) {
      report.mendedCount++
      if (report.mended.length < LISTED_MAX) report.mended.push({ name, message })
    },
    lost(part) {
      report.lostCount++
      if (report.lost.length < LISTED_MAX) report.lost.push(part)
    },
    lostChunk: (chunk) => lostChunks.add(chunk),
    waiting: (name, why) => report.waiting.push({ name, why }),
    unlabelled: (holder) => report.unlabelledHolders.push(holder),
  }
  // Without keys nobody could check a signature.
  if (await repairKeys(options, run)) {
    for (const image of region.listImages()) await checkSigned(options, image, run)
  }
  // Maps before packs: what is alive in a pack is known only from whole maps; images before their signatures.
  for (const prefix of ['images/', 'signatures/', 'pages/', 'refs/', 'packs/']) {
    const rows = run.damage.list().filter(({ name }) => name.startsWith(prefix))
    for (const own of Map.groupBy(rows, (row) => row.object).values()) {
      signal?.throwIfAborted()
      await repairRows(options, own, run)
    }
  }
  await repairBinds(options, run)
  await tellLostKeys(options, run)
  for await (const { chunk, ...where } of locateChunks(region, lostChunks, signal)) {
    run.lost({
      message: `Chunk ${chunk} is damaged, and no other region that answers has it.`,
      chunk,
      ...where,
    })
  }
  return report
}

/** All rows of one object, the one of the whole object first. */
async function repairRows(options: RepairOptions, rows: readonly DamageRow[], run: RepairRun): Promise<void> {
  const [first] = rows
  if (first === undefined) return
  const { name, chunk } = first
  if (name.startsWith('packs/')) return repairPack(options, rows, run)
  // Only packs are known chunk by chunk.
  if (chunk !== undefined) return
  if (name.startsWith('refs/')) return repairRef(options, first, run)
  await repairObject(options, first, run)
  // Nobody could check the signature of an image that was damaged itself.
  if (name.startsWith('images/')) await checkSigned(options, hashOfName(name) as Digest, run)
}

/** Lists a signature that is not right, so that it is mended with the others. */
async function checkSigned(options: RepairOptions, image: Digest, run: RepairRun): Promise<void> {
  const { region, signal } = options
  const name = signatureName(image)
  if ((await readRight(region, region, name, signal)) !== undefined) return
  run.damage.note(name, [{ message: `The object ${name} is damaged.` }], region.clock())
}
