import type { Catalog } from '../catalog/contract.ts'
import { isFault } from '../image/fault.ts'
import type { Digest, RegionId } from '../image/ids.ts'
import { namesOfImages } from './image-names.ts'
import type { TaskParts } from './parts.ts'
import { chargeProblems } from './quota.ts'
import { basesOf } from './refs.ts'
import type { TaskDefinition } from './runner.ts'
import type { StoreJobs } from './store-jobs.ts'

export interface VerifyInput {
  readonly regionId: RegionId
  readonly deep: boolean
}

/**
 * The invariants of one region, checked whole: the store's own (every pack, page and chunk an image names), then
 * what the catalog says of it: every available image and snapshot and every machine's base is in the store, and a ref
 * keeps it there; nobody is charged above his quota. A region with problems is a task that is done; the problems are its output,
 * those of an image or snapshot by its id and name.
 */
export function verifyRegion({ catalog, jobs }: TaskParts): TaskDefinition<VerifyInput> {
  return {
    kind: 'verify-region',
    gate: 'bytes',
    steps: [
      {
        name: 'verify',
        async run(context) {
          const { regionId, deep } = context.input
          const report = await jobs.verify(regionId, deep, context.progress, context.signal)
          const nameOf = await namesOfImages(catalog.rows, regionId)
          const problems = [
            ...report.problems.flatMap(({ message, image, ...where }) =>
              nameOf(image, where).map((name) => (name === '' ? message : `${name}: ${message}`)),
            ),
            ...(await catalogProblems(catalog, jobs, regionId)),
            ...(await chargeProblems(catalog.rows, regionId)),
          ]
          await context.finish({ ...report, problems }, async () => {})
        },
      },
    ],
    undo: async () => {},
  }
}

interface Need {
  readonly id: string
  readonly digest: string
  /** Which invariant it is about, and who needs it. */
  readonly who: string
}

/** What the catalog counts on in the region. */
async function listNeeds({ rows }: Catalog, regionId: RegionId): Promise<Need[]> {
  const needs: Need[] = []
  for (const noun of ['image', 'snapshot'] as const) {
    const held = await rows
      .selectFrom(noun)
      .select(['id', 'digest'])
      .where('regionId', '=', regionId)
      .where('state', '=', 'available')
      .execute()
    needs.push(
      ...held.map(({ id, digest }) => ({
        id,
        digest: digest ?? '',
        who: `I1: ${noun} ${id} is available and`,
      })),
    )
  }
  const machines = await rows
    .selectFrom('machine')
    .select(['id', 'disks'])
    .where('regionId', '=', regionId)
    // One that is being made refers in its first step; one that could not be made has nothing left to read.
    .where('state', 'not in', ['creating', 'failed'])
    .execute()
  return [
    ...needs,
    ...machines.flatMap(({ id, disks }) =>
      basesOf(disks).map((digest) => ({ id, digest, who: `I2: machine ${id}` })),
    ),
  ]
}

const KEPT_BY_NONE = 'which no ref of it keeps. Start the server again'

async function catalogProblems(catalog: Catalog, jobs: StoreJobs, regionId: RegionId): Promise<string[]> {
  const problems: string[] = []
  const lookUp = async () => {
    const refs = new Map((await jobs.refs(regionId)).map(({ holder, digests }) => [holder, digests]))
    return ({ id, digest }: Need) => refs.get(id)?.some((one) => one === digest) === true
  }
  const isKept = await lookUp()
  const wrong: (Need & { readonly why: string })[] = []
  for (const need of await listNeeds(catalog, regionId)) {
    try {
      await jobs.diskSizes(regionId, need.digest as Digest)
      if (!isKept(need)) wrong.push({ ...need, why: KEPT_BY_NONE })
    } catch (error) {
      if (!isFault(error)) throw error
      wrong.push({ ...need, why: 'which the store does not hold' })
    }
  }
  // Between the two looks something may have been deleted, or made.
  const still = wrong.length === 0 ? [] : await listNeeds(catalog, regionId)
  const isKeptNow = await lookUp()
  for (const { why, ...need } of wrong) {
    const { id, digest, who } = need
    if (!still.some((other) => other.id === id && other.digest === digest)) continue
    if (why === KEPT_BY_NONE && isKeptNow(need)) continue
    problems.push(`${who} needs ${digest}, ${why}`)
  }
  for (const noun of ['image', 'snapshot'] as const) {
    const unfinished = await catalog.rows
      .selectFrom(noun)
      .select('id')
      .where('regionId', '=', regionId)
      .where('state', '=', 'available')
      .where('progressPermille', '!=', 1000)
      .execute()
    problems.push(...unfinished.map(({ id }) => `I8: ${noun} ${id} is available below 100 %`))
  }
  return problems
}
