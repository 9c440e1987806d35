import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import fc from 'fast-check'
import { isFault } from '../../image/fault.ts'
import { makeFolder } from '../fixture.ts'
import { qemuInfo } from './checks.fixture.ts'
import type { InspectedDisk, Inspection } from './contract.ts'
import { inspect } from './inspect.ts'
import { MutableFile, type Mutant, type Mutation } from './mutants.fixture.ts'
import { SEEDS } from './seeds.fixture.ts'

const CASE_COUNT = 200_000
const CASE_MS_MAX = 50
const CASE_BYTES_MAX = 64 * 1024 * 1024
/** A case is over a bound if it is so this often in a row: the garbage of earlier ones is not its own. */
const TRY_COUNT = 3
const OPTIONS = { virtualBytesMax: 1024 ** 4 }
/** Of each seed, mutants that were taken, for QEMU to look at. */
const SAMPLE_COUNT = 25

interface Outcome {
  readonly slowestMs: number
  readonly largestBytes: number
  readonly tally: ReadonlyMap<string, { readonly cases: number; readonly taken: number }>
  readonly taken: readonly {
    readonly name: string
    readonly disk: InspectedDisk
    readonly bytes: Uint8Array
  }[]
}

// The cases run in a thread, because here the test runner would look after every single promise of theirs.
if (isMainThread) {
  test('no file of 200 000 breaks the inspector, or takes over 50 ms or 64 MiB, and QEMU agrees on what is taken', async (t) => {
    const seed = Number(process.env.CALOTYPE_SEED ?? Date.now() % 2 ** 31)
    console.log(`seed ${seed} (CALOTYPE_SEED)`)
    const worker = new Worker(import.meta.filename, { workerData: seed })
    const [outcome] = (await once(worker, 'message')) as [Outcome]
    console.log([...outcome.tally].map(([name, { cases, taken }]) => `${name}: ${taken} of ${cases} taken`))
    console.log(`slowest ${outcome.slowestMs.toFixed(1)} ms, largest ${outcome.largestBytes / 1024} KiB`)
    assert.equal(outcome.tally.size, SEEDS.length)
    await compareWithQemu(await makeFolder(t), outcome.taken)
    console.log(`${outcome.taken.length} mutants that were taken are the same to QEMU`)
  })
} else parentPort?.postMessage(await runCases(workerData as number))

/** Format, size, and no other file. */
async function compareWithQemu(folder: string, taken: Outcome['taken']): Promise<void> {
  assert.ok(taken.length > SEEDS.length)
  const disagreements: unknown[] = []
  const lane = async (first: number) => {
    const path = join(folder, `mutant-${first}`)
    for (let index = first; index < taken.length; index += 2) {
      const mutant = taken[index]
      assert.ok(mutant !== undefined)
      await writeFile(path, mutant.bytes)
      // QEMU has a name of its own for one of them.
      const format = mutant.disk.format === 'vhd' ? 'vpc' : mutant.disk.format
      const expected = { format, virtualBytes: mutant.disk.virtualBytes, otherFiles: [] }
      const told = await qemuInfo(path, format).catch((error: unknown) => String(error))
      if (!isDeepStrictEqual(told, expected)) disagreements.push({ name: mutant.name, expected, told })
    }
  }
  await Promise.all([lane(0), lane(1)])
  assert.deepEqual(disagreements, [])
}

async function runCases(seed: number): Promise<Outcome> {
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc') as () => void
  const files = SEEDS.map((one) => new MutableFile(one, one.make()))
  // Small files are worth more cases than those that take ten times as long.
  const weights: Readonly<Record<string, number>> = { vhdx: 3, ova: 6, raw: 4, packing: 2, bundle: 1 }
  const weighted = files.flatMap((file) => Array<MutableFile>(weights[file.seed.format] ?? 10).fill(file))
  const tally = new Map<string, { cases: number; taken: number }>()
  const taken: Outcome['taken'][number][] = []
  let slowestMs = 0
  let largestBytes = 0

  const runCase = async (mutant: Mutant) => {
    let { found, cost } = await inspectMutant(mutant)
    for (let count = 1; count < TRY_COUNT && isTooMuch(cost); count += 1) {
      collectGarbage()
      ;({ found, cost } = await inspectMutant(mutant))
    }
    assert.ok(!isTooMuch(cost), `${mutant.seed.name}: ${JSON.stringify(cost)}`)
    slowestMs = Math.max(slowestMs, cost.ms)
    largestBytes = Math.max(largestBytes, cost.bytes)
    const counts = tally.get(mutant.seed.name) ?? { cases: 0, taken: 0 }
    tally.set(mutant.seed.name, counts)
    counts.cases += 1
    const disks = found?.is === 'disk' ? [found.disk] : found?.is === 'archive' ? found.disks : []
    // The first ones, and after that now and then one in place of another.
    const place = counts.taken < SAMPLE_COUNT ? counts.taken : counts.taken % 97
    if (found !== undefined) counts.taken += 1
    const [disk] = disks
    if (disk === undefined || place >= SAMPLE_COUNT) return
    const bytes = mutant.bytes().subarray(disk.offset, disk.offset + disk.lengthBytes)
    const { name } = mutant.seed
    const others = taken.flatMap((one, index) => (one.name === name ? [index] : []))
    taken[others[place] ?? taken.length] = { name, disk, bytes }
  }

  const property = fc.asyncProperty(fc.nat(), fc.nat(), mutations(), async (which, variant, changes) => {
    const file = weighted[which % weighted.length]
    assert.ok(file !== undefined)
    const { deep } = file.seed
    const build = deep !== undefined && variant % 3 !== 0 ? deep[variant % deep.length] : undefined
    if (build === undefined) return await runCase(file.mutate(changes, files))
    // Changed before the checksums over it are made, so that the format behind them is reached.
    const bytes = build((part) => {
      if (part.length > 0) new MutableFile(file.seed, Buffer.from(part)).mutate(changes, files).copyTo(part)
    })
    return await runCase(new MutableFile(file.seed, bytes).mutate([], files))
  })
  await fc.assert(property, { numRuns: CASE_COUNT, seed })
  return { slowestMs, largestBytes, tally, taken }
}

function mutations(): fc.Arbitrary<Mutation[]> {
  const mutation = fc.record({
    kind: fc.constantFrom(
      ...(['byte', 'bit', 'bit', 'number', 'number', 'number', 'copy', 'cut', 'grow', 'splice'] as const),
    ),
    isAnywhere: fc.integer({ min: 0, max: 3 }).map((of4) => of4 === 0),
    where: fc.nat(),
    other: fc.nat(),
    value: fc.nat({ max: 0xffff }),
  })
  return fc.array(mutation, { minLength: 1, maxLength: 5 })
}

interface Cost {
  readonly ms: number
  readonly bytes: number
}

function isTooMuch({ ms, bytes }: Cost): boolean {
  return ms > CASE_MS_MAX || bytes > CASE_BYTES_MAX
}

/** What the inspector says, or undefined for a refusal; anything else it throws is a fault of ours. */
async function inspectMutant(
  mutant: Mutant,
): Promise<{ readonly found: Inspection | undefined; readonly cost: Cost }> {
  const before = heldBytes()
  let most = before
  const sample = () => {
    most = Math.max(most, heldBytes())
  }
  // Of this thread alone: what others do on the machine, and how long they make it wait, is not counted.
  const start = process.threadCpuUsage()
  const found = await inspect(mutant.source(sample), OPTIONS).catch((error: unknown) => {
    if (isFault(error, 'invalid') && error.subject === 'file' && error.reason !== undefined) return undefined
    throw error
  })
  const { user, system } = process.threadCpuUsage(start)
  const ms = (user + system) / 1000
  sample()
  return { found, cost: { ms, bytes: most - before } }
}

function heldBytes(): number {
  const { used_heap_size, external_memory } = getHeapStatistics()
  return used_heap_size + external_memory
}
