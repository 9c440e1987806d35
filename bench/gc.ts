import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { CHUNK_BYTES_DEFAULT } from '../src/store/chunk.ts'
import { collectGarbage } from '../src/store/gc.ts'
import type { RegionStore } from '../src/store/region.ts'
import { openRegion } from '../src/tasks/threads/region.ts'
import { isInstalled } from './tools/machine.ts'
import { runCommand, sizeOfTree, withScratch } from './tools/measure.ts'
import { initRestic, resticEnvironment } from './tools/peers.ts'
import { placeIn, SOURCE } from './tools/places.ts'
import type { Bench, Row } from './tools/report.ts'
import { captureSynthetic, syntheticChunk } from './tools/synthetic.ts'

// Half of 200 images go while two threads capture. What counts is the longest that a writer waits: for the index, the
// only thing that it shares with the collection. The peers lock the whole repository while they prune: what is told
// of them is how long a second writer that comes while they do so is kept out.

const IMAGES = 200
const PEER_IMAGES = 40
/** 22 MiB an image, of which each shares a third with the one before. */
const CHUNKS = 90
const STEP = 60
/** Four images in a row go, four stay: some chunks are still needed, some packs are half empty, some not needed. */
const isGone = (i: number) => Math.floor(i / 4) % 2 === 0
const STALL_MS_MAX = 50

interface WriterSaid {
  readonly imageCount: number
  readonly chunkCount: number
  readonly seconds: number
  readonly waitMs: number
  readonly heldMs: number
}

/** Two threads capture while `work` runs; what they met. */
async function whileWriting<Result>(folder: string, from: number, work: () => Promise<Result>) {
  const file = new URL('./tools/gc-writer.ts', import.meta.url)
  const workers = [0, 1].map((i) => new Worker(file, { workerData: { folder, number: from + i } }))
  const said = workers.map((worker) => once(worker, 'message') as Promise<[WriterSaid]>)
  await delay(1000)
  const beginMs = performance.now()
  const result = await work()
  const seconds = (performance.now() - beginMs) / 1000
  for (const worker of workers) worker.postMessage('stop')
  const answers = (await Promise.all(said)).map(([answer]) => answer)
  const chunks = answers.reduce((sum, one) => sum + one.chunkCount / one.seconds, 0)
  return {
    result,
    seconds,
    stallMs: Math.max(...answers.map((one) => one.waitMs)),
    ownHoldMs: Math.max(...answers.map((one) => one.heldMs)),
    logicalMegabytesPerSecond: Math.round((chunks * CHUNK_BYTES_DEFAULT) / 1e6),
  }
}

async function ours(region: RegionStore, folder: string, say: (line: string) => void): Promise<Row[]> {
  for (let i = 0; i < IMAGES; i++) {
    await captureSynthetic(region, { name: `i${i}`, first: i * STEP, count: CHUNKS })
  }
  const quiet = await whileWriting(folder, 1, () => delay(5000))
  say(`two captures alone: longest wait ${quiet.stallMs.toFixed(1)} ms`)
  for (let i = 0; i < IMAGES; i++) if (isGone(i)) await region.dropRef(`i${i}`)
  const storedBytes = await sizeOfTree(join(folder, SOURCE, 'objects'))
  const busy = await whileWriting(folder, 3, () =>
    collectGarbage({ region, graceMs: 0, isDryRun: false, deadSessions: [] }),
  )
  const { removedBytes, repackedBytes, rewrittenBytes, longestTransactionMs } = busy.result
  say(`with a collection: longest wait ${busy.stallMs.toFixed(1)} ms`)
  const { result: _, ...told } = busy
  const { result: __, seconds: ___, ...toldQuiet } = quiet
  return [
    {
      name: 'calotype',
      ...told,
      longestTransactionMs: Number(longestTransactionMs.toFixed(2)),
      storedBytes,
      removedBytes,
      repackedBytes,
      rewrittenBytes,
      freedMegabytesPerSecond: Math.round(removedBytes / busy.seconds / 1e6),
    },
    { name: 'two captures without a collection', ...toldQuiet },
  ]
}

async function writeDisk(path: string, first: number): Promise<void> {
  const file = await open(path, 'w')
  const plain = Buffer.alloc(CHUNK_BYTES_DEFAULT)
  for (let i = 0; i < CHUNKS; i++) await file.write(syntheticChunk(first + i, plain))
  await file.close()
}

async function seconds(command: readonly string[], env: NodeJS.ProcessEnv): Promise<number | undefined> {
  const beginMs = performance.now()
  const child = spawn(command[0] ?? '', command.slice(1), { stdio: 'ignore', env })
  const [code] = (await once(child, 'close')) as [number]
  return code === 0 ? (performance.now() - beginMs) / 1000 : undefined
}

/**
 * Runs `prune`, and beside it `write` again and again until it succeeds: by how much later it was done than when nothing
 * is in its way.
 */
async function keptOut(
  prune: readonly string[],
  write: (name: string) => readonly string[],
  isLocked: () => boolean,
  environment: Record<string, string>,
) {
  const env = { ...process.env, ...environment }
  const alone = (await seconds(write('alone'), env)) ?? Number.NaN
  const pruning = seconds(prune, env)
  while (!isLocked()) await delay(5)
  const askedMs = performance.now()
  while ((await seconds(write('late'), env)) === undefined);
  const stallMs = Math.max(0, performance.now() - askedMs - alone * 1000)
  return { seconds: (await pruning) ?? Number.NaN, stallMs: Math.round(stallMs) }
}

async function restic(scratch: string): Promise<Row> {
  const name = 'restic forget --prune'
  if (!isInstalled('restic')) return { name, reason: 'restic is not installed (package restic)' }
  const repository = join(scratch, 'restic')
  await initRestic(repository)
  const environment = resticEnvironment(repository)
  const disk = join(scratch, 'disk')
  const backup = (tag: string) => [
    'sh',
    '-c',
    `restic backup --quiet --tag ${tag} --stdin --stdin-filename disk < "$1"`,
    'sh',
    disk,
  ]
  for (let i = 0; i < PEER_IMAGES; i++) {
    await writeDisk(disk, i * STEP)
    await runCommand(backup(isGone(i) ? 'gone' : 'kept'), { environment, result: repository })
  }
  const snapshots = ['restic', 'snapshots', '--json', '--tag', 'gone']
  const { said } = await runCommand(snapshots, { environment, result: disk })
  const ids = (JSON.parse(said) as { id: string }[]).map(({ id }) => id)
  const isLocked = () => readdirSync(join(repository, 'locks')).length > 0
  const prune = ['restic', 'forget', '--quiet', '--prune', ...ids]
  return { name, ...(await keptOut(prune, backup, isLocked, environment)) }
}

async function borg(scratch: string): Promise<Row> {
  const name = 'borg delete && borg compact'
  if (!isInstalled('borg')) return { name, reason: 'borg is not installed (package borgbackup)' }
  const repository = join(scratch, 'borg')
  const environment = {
    BORG_BASE_DIR: `${repository}-base`,
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
  }
  const disk = join(scratch, 'disk')
  const create = (archive: string, ...more: string[]) => [
    ...['borg', 'create', ...more, '--chunker-params', 'fixed,262144', '-C', 'zstd,1'],
    ...[`${repository}::${archive}`, disk],
  ]
  await runCommand(['borg', 'init', '-e', 'none', repository], { environment, result: repository })
  for (let i = 0; i < PEER_IMAGES; i++) {
    await writeDisk(disk, i * STEP)
    await runCommand(create(`${isGone(i) ? 'gone' : 'kept'}${i}`), { environment, result: repository })
  }
  const isLocked = () => existsSync(join(repository, 'lock.exclusive'))
  const prune = [
    'sh',
    '-c',
    'borg delete --glob-archives "gone*" "$1" && borg compact --threshold 10 "$1"',
    'sh',
    repository,
  ]
  return {
    name,
    ...(await keptOut(prune, (archive) => create(archive, '--lock-wait', '0'), isLocked, environment)),
  }
}

export const run: Bench = (say) =>
  withScratch(async (scratch) => {
    const folder = join(scratch, 'ours')
    const region = await openRegion(placeIn(folder, SOURCE))
    let rows: Row[]
    try {
      rows = await ours(region, folder, say)
    } finally {
      region.close()
    }
    rows = [...rows, await restic(scratch), await borg(scratch)]
    const got = Number(rows[0]?.stallMs)
    return {
      rows,
      races: [],
      marks: [
        {
          what: 'longest that a writer waits while half of 200 images are collected, milliseconds',
          goal: `< ${STALL_MS_MAX}`,
          got,
          met: got < STALL_MS_MAX,
        },
      ],
    }
  })
