import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type MachineId, newId } from '../../image/ids.ts'
import { CONSOLE_KEPT_BYTES } from '../contract.ts'
import { until } from '../suite.ts'
import { KeyedLock } from '../tools/keyed-lock.ts'
import type { GuestPaths } from './paths.ts'
import { Watch } from './watch.ts'

/** Machines whose guests have a status, or a failure that asking them meets. */
async function around(t: TestContext, guests: Map<MachineId, string | Error>) {
  const folder = await mkdtemp(join(tmpdir(), 'calotype-watch-'))
  const logged: string[] = []
  const listing: { failure?: Error } = {}
  const thawed: MachineId[] = []
  let rounds = 0
  const consoleLog = (id: MachineId) => join(folder, id)
  const watch = new Watch({
    folders: {
      list: async () => {
        rounds++
        if (listing.failure !== undefined) throw listing.failure
        return [...guests.keys()]
      },
    },
    guests: {
      paths: (id) => ({ consoleLog: consoleLog(id) }) as GuestPaths,
      isRunning: async (id) => guests.get(id) !== 'off',
      resume: async (id, after = ['paused', 'io-error']) => {
        const status = guests.get(id)
        if (status instanceof Error) throw status
        if (status === undefined || !after.includes(status)) return 'ran'
        guests.set(id, 'running')
        return 'stood'
      },
    },
    lock: new KeyedLock(),
    thaw: async (id) => void thawed.push(id),
    waitMs: 1,
    log: (text, detail) => logged.push(`${text} ${detail?.error}`),
  })
  t.after(async () => {
    await watch.close()
    await rm(folder, { recursive: true })
  })
  const untilRounds = (count: number) => {
    const end = rounds + count
    return until(`${count} rounds`, async () => rounds >= end)
  }
  return { watch, logged, listing, thawed, consoleLog, untilRounds }
}

test('whatever fails with one machine is logged once, and the others are still watched', async (t) => {
  const [broken, paused, later] = [newId('machine'), newId('machine'), newId('machine')]
  const guests = new Map<MachineId, string | Error>([
    [broken, Object.assign(new Error('too many files'), { code: 'EMFILE' })],
    [paused, 'paused'],
  ])
  const { watch, logged, listing, untilRounds } = await around(t, guests)
  listing.failure = new Error('no list')
  watch.start()
  await untilRounds(3)
  delete listing.failure
  await until('the guest to go on', async () => guests.get(paused) === 'running')
  await untilRounds(3)
  guests.set(later, 'io-error')
  await until('the later guest to go on', async () => guests.get(later) === 'running')
  assert.equal(logged.length, 2)
  assert.match(logged[0] ?? '', /no list/)
  assert.match(logged[1] ?? '', new RegExp(`${broken}.*too many files`))
  guests.set(broken, 'paused')
  await until('the broken one to go on at last', async () => guests.get(broken) === 'running')
})

test('only a guest from before the start goes on after it was told to stop, and whoever runs is thawed, if need be', async (t) => {
  const [earlier, later] = [newId('machine'), newId('machine')]
  const guests = new Map<MachineId, string | Error>([[earlier, 'paused']])
  const { watch, thawed, untilRounds } = await around(t, guests)
  watch.start()
  await until('the earlier guest to go on', async () => guests.get(earlier) === 'running')
  await untilRounds(2)
  guests.set(earlier, 'paused')
  guests.set(later, 'paused')
  await untilRounds(3)
  assert.deepEqual([...guests.values()], ['paused', 'paused'])
  guests.set(later, 'off')
  thawed.length = 0
  await until('it to be thawed again and again', async () => thawed.length >= 2)
  assert.ok(thawed.every((id) => id === earlier))
  guests.set(earlier, 'io-error')
  await until('it to go on after its disk failed', async () => guests.get(earlier) === 'running')
})

test('the console log of each machine is kept from growing, also where its guest does not answer', async (t) => {
  const [loud, off] = [newId('machine'), newId('machine')]
  const { watch, logged, consoleLog } = await around(
    t,
    new Map<MachineId, string | Error>([
      [loud, new Error('silent')],
      [off, 'off'],
    ]),
  )
  for (const id of [loud, off])
    await writeFile(consoleLog(id), Buffer.alloc(CONSOLE_KEPT_BYTES + 16 * 1024 ** 2, 'x'))
  watch.start()
  for (const id of [loud, off])
    await until('the log to be cut', async () => {
      const { size, blocks } = await stat(consoleLog(id))
      return size === CONSOLE_KEPT_BYTES + 16 * 1024 ** 2 && blocks * 512 < CONSOLE_KEPT_BYTES + 9 * 1024 ** 2
    })
  assert.equal(logged.length, 1)
})

test('a watch alone does not keep a process from ending', async () => {
  const code = `
    const { Watch } = await import(${JSON.stringify(import.meta.resolve('./watch.ts'))})
    const { KeyedLock } = await import(${JSON.stringify(import.meta.resolve('../tools/keyed-lock.ts'))})
    new Watch({ folders: { list: async () => [] }, guests: {}, lock: new KeyedLock(), thaw() {}, log() {} }).start()`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code])
  assert.deepEqual(await once(child, 'exit'), [0, null])
})
