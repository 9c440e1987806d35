import assert from 'node:assert/strict'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { HOSTILE, mutate } from '../disks/hostile.ts'
import { buildLinux } from '../disks/linux.ts'
import { buildNtfs } from '../disks/ntfs.ts'
import { run } from '../disks/programs.ts'
import { Tokens } from '../disks/tokens.ts'
import type { Place } from '../e2e/harness.ts'
import { newSeed } from '../live/seed.ts'
import { assertNothingLeft } from './left.ts'
import { createCleanImage, newFilesPlace } from './place.ts'

const MIB = 1024 ** 2
const GROWTH_BYTES_MAX = 200 * MIB
/** Of answers while hostile disks are cleaned, on a machine whose processors are all at work. */
const SLOWEST_MS_MAX = 1500
const AT_ONCE = 4

interface Watch {
  readonly latenciesMs: number[]
  readonly residentBytesMax: number
  end(): Promise<void>
}

/** Asks the server again and again, and looks at its memory. */
async function watch(place: Place): Promise<Watch> {
  const stop = new AbortController()
  const state = { latenciesMs: [] as number[], residentBytesMax: 0 }
  const work = (async () => {
    while (!stop.signal.aborted) {
      const beganMs = performance.now()
      await place.server.native.call('GET', '/v1/regions')
      state.latenciesMs.push(performance.now() - beganMs)
      state.residentBytesMax = Math.max(state.residentBytesMax, await residentBytes(place))
      await delay(20)
    }
  })()
  return Object.assign(state, {
    async end() {
      stop.abort()
      await work
    },
  })
}

async function residentBytes(place: Place): Promise<number> {
  const status = await readFile(`/proc/${place.server.process?.pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024
}

const p99 = (all: readonly number[]) => [...all].sort((a, b) => a - b)[Math.floor(all.length * 0.99)] ?? 0

test('hostile file systems end their own task, and nobody else notices', async (t) => {
  const seed = newSeed(t)
  const tokens = new Tokens(seed)
  const names: string[] = []
  const place = await newFilesPlace(t, async (machines) => {
    const whole = { ntfs: join(machines, 'whole.ntfs'), ext4: join(machines, 'whole.ext4') }
    await buildNtfs({ path: whole.ntfs, sizeBytes: 64 * MIB, tokens, isData: true })
    const features = '^metadata_csum'
    await buildLinux({ path: whole.ext4, sizeBytes: 64 * MIB, tokens, isData: true, features })
    for (const type of ['ntfs', 'ext4'] as const) {
      for (const way of HOSTILE[type].keys()) {
        const name = `${type}-${way}`
        const path = join(machines, `${name}.raw`)
        await run('cp', ['--sparse=always', whole[type], path])
        await mutate(path, type, way, seed + way)
        names.push(name)
      }
      await rm(whole[type])
    }
  })
  const idle = await watch(place)
  await delay(2000)
  await idle.end()

  const busy = await watch(place)
  const left = [...names]
  const clean = async () => {
    for (let name = left.shift(); name !== undefined; name = left.shift()) {
      const { task } = await createCleanImage(place, (await place.machine(name)).id, name)
      t.diagnostic(`${name} (${whatOf(name)}): ${task.state} ${task.reason ?? ''}`)
      if (task.state === 'done') continue
      assert.equal(task.state, 'failed')
      assert.doesNotMatch(task.reason ?? '', /CNRY|KEEP|Report this|examiner/)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, clean)).finally(() => busy.end())

  t.diagnostic(
    `p99 ${p99(idle.latenciesMs).toFixed(1)} ms idle, ${p99(busy.latenciesMs).toFixed(1)} ms meanwhile`,
  )
  const grownBytes = busy.residentBytesMax - idle.residentBytesMax
  t.diagnostic(`${(grownBytes / MIB).toFixed(1)} MiB more memory at most`)
  assert(grownBytes < GROWTH_BYTES_MAX, `${grownBytes}`)
  assert(p99(busy.latenciesMs) < SLOWEST_MS_MAX)
  await assertNothingLeft(place, tokens)
})

function whatOf(name: string): string {
  const [type = 'ntfs', way] = name.split('-')
  return HOSTILE[type === 'ntfs' ? 'ntfs' : 'ext4'][Number(way)] ?? ''
}
