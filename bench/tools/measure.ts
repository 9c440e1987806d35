import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { CACHE } from './data.ts'
import { isInstalled } from './machine.ts'
import type { Row } from './report.ts'

export const RUN_COUNT = 3

/** One way to do the work that is measured, as one command over a folder of its own that starts empty. */
export interface Contender {
  readonly name: string
  /** The program that has to be installed, where it is not ours. */
  readonly tool?: string
  readonly package?: string
  readonly environment?: (folder: string) => Readonly<Record<string, string>>
  /** Before the clock starts. */
  readonly prepare?: (folder: string) => Promise<void>
  readonly command: (folder: string) => readonly string[]
  /** The seconds that count, where they are not those of the whole process: of a service that would run already. */
  readonly secondsOf?: (said: string) => number
  /** After the clock has stopped: what is told of the run besides its time. `said` is its standard output. */
  readonly look?: (folder: string, said: string) => Promise<Omit<Row, 'name'>>
}

interface Run {
  readonly seconds: number
  readonly peakRssBytes: number
  readonly cpuSeconds: number | undefined
  readonly said: string
}

/** The middle value; of an even number the lower one, so that it is one that was measured. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted[Math.floor((sorted.length - 1) / 2)]
  if (middle === undefined) throw new Error('there is no median of nothing')
  return middle
}

/**
 * Runs a command to its end, then syncs every file of `result`; the time is that of both. We sync the result's own
 * files and not the whole file system, so that nobody pays for what others left to be written.
 */
export async function runCommand(
  command: readonly string[],
  options: { readonly environment?: Readonly<Record<string, string>>; readonly result: string },
): Promise<Run> {
  // GNU time asks the kernel for the peak of the largest process it waited for, and for the time of all cores; without
  // it we look at the peak ourselves.
  const timePath = `${options.result}.rss`
  const isTimed = existsSync('/usr/bin/time')
  const words = isTimed ? ['/usr/bin/time', '-f', '%M %U %S', '-o', timePath, ...command] : command
  const beginMs = performance.now()
  const child = spawn(words[0] ?? '', words.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...options.environment },
  })
  let said = ''
  let complaint = ''
  let peakRssBytes = 0
  let cpuSeconds: number | undefined
  child.stdout.on('data', (bytes: Buffer) => {
    said += bytes.toString()
  })
  child.stderr.on('data', (bytes: Buffer) => {
    complaint = (complaint + bytes.toString()).slice(-4000)
  })
  const timer = setInterval(() => {
    if (!isTimed) peakRssBytes = Math.max(peakRssBytes, statusBytes(child.pid, 'VmHWM'))
  }, 20)
  const [code] = (await once(child, 'close').finally(() => clearInterval(timer))) as [number | null]
  if (code !== 0) throw new Error(`${command.join(' ')}: ended with ${code}: ${complaint.trim()}`)
  await syncTree(options.result)
  const seconds = (performance.now() - beginMs) / 1000
  if (isTimed) {
    const [peakKib = 0, user = 0, system = 0] = (await readFile(timePath, 'utf8'))
      .trim()
      .split(' ')
      .map(Number)
    peakRssBytes = peakKib * 1024
    cpuSeconds = user + system
    await rm(timePath)
  }
  return { seconds, peakRssBytes, cpuSeconds, said }
}

/** A figure of /proc/PID/status in bytes, 0 for a process that is gone. */
export function statusBytes(pid: number | undefined, field: 'VmHWM' | 'VmRSS'): number {
  try {
    const line = readFileSync(`/proc/${pid}/status`, 'utf8').match(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm'))
    return Number(line?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}

async function* filesOf(path: string): AsyncIterable<string> {
  if (!existsSync(path)) return
  if (!(await stat(path)).isDirectory()) {
    yield path
    return
  }
  for (const entry of await readdir(path, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) yield join(entry.parentPath, entry.name)
  }
}

async function syncTree(path: string): Promise<void> {
  for await (const file of filesOf(path)) {
    const handle = await open(file, 'r')
    await handle.sync()
    await handle.close()
  }
}

/** Bytes of all files at or below `path`. */
export async function sizeOfTree(path: string): Promise<number> {
  let total = 0
  for await (const file of filesOf(path)) total += (await stat(file)).size
  return total
}

/** A folder for results, on the disk that also holds the test disks; gone when `work` has ended. */
export async function withScratch<T>(work: (folder: string) => Promise<T>): Promise<T> {
  await mkdir(CACHE, { recursive: true })
  const folder = await mkdtemp(join(CACHE, 'run-'))
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/**
 * Runs the contenders in turn (A B C A B C …), first a round that does not count, which also warms the page cache
 * for all of them, then `runCount` that do. One row each, in order; the row of one that is not installed says so.
 */
export async function compare(
  contenders: readonly Contender[],
  say: (line: string) => void,
  runCount = RUN_COUNT,
): Promise<Row[]> {
  const runs = new Map<string, { run: Run; more: Omit<Row, 'name'> }[]>()
  const missing = new Map<string, string>()
  for (const { name, tool, package: packageName } of contenders) {
    if (tool === undefined || isInstalled(tool)) runs.set(name, [])
    else missing.set(name, `${tool} is not installed (package ${packageName ?? tool})`)
  }
  for (let round = 0; round <= runCount; round++) {
    for (const contender of contenders) {
      const own = runs.get(contender.name)
      if (own === undefined) continue
      await withScratch(async (scratch) => {
        const folder = join(scratch, 'result')
        const environment = contender.environment?.(folder) ?? {}
        await mkdir(folder)
        await contender.prepare?.(folder)
        const whole = await runCommand(contender.command(folder), { environment, result: folder })
        const run = { ...whole, seconds: contender.secondsOf?.(whole.said) ?? whole.seconds }
        const more = {
          ...(await contender.look?.(folder, run.said)),
          ...(contender.secondsOf === undefined ? {} : { processSeconds: Number(whole.seconds.toFixed(3)) }),
        }
        say(`${round === 0 ? 'warm-up' : `run ${round}`}: ${contender.name}: ${run.seconds.toFixed(3)} s`)
        if (round > 0) own.push({ run, more })
      })
    }
  }
  return contenders.map(({ name }) => {
    const own = runs.get(name)
    if (own === undefined) return { name, reason: missing.get(name) ?? '' }
    const times = own.map(({ run }) => run.seconds)
    const seconds = median(times)
    // What else is told is of the run that is told of.
    const told = own.find(({ run }) => run.seconds === seconds)
    return {
      name,
      seconds,
      peakRssBytes: median(own.map(({ run }) => run.peakRssBytes)),
      ...(told?.run.cpuSeconds === undefined ? {} : { cpuSeconds: Number(told.run.cpuSeconds.toFixed(2)) }),
      ...told?.more,
      runsSeconds: times.map((one) => Number(one.toFixed(3))),
    }
  })
}
