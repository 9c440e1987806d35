import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { getPriority, tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createJobs } from './jobs.ts'
import { TalkingThread } from './talk.ts'
import { runThread } from './thread.ts'

const never = new AbortController().signal
const NICE = new URL('./priority-thread.fixture.ts', import.meta.url)
const NICE_ANSWERS = new URL('./priority-answers.fixture.ts', import.meta.url)

/** The nice of every thread of this process that the kernel knows. Source: proc_pid_stat(5), field 19. */
function allNice(): number[] {
  return readdirSync('/proc/self/task').map((id) => {
    const stat = readFileSync(`/proc/self/task/${id}/stat`, 'latin1')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16])
  })
}

test('a thread that works stands back from the one that started it', async () => {
  const own = getPriority(process.pid)
  assert.ok((await runThread<number>(NICE, {}, { signal: never })) > own)
  assert.equal(getPriority(process.pid), own)
})

test('so does one that answers questions, and no other thread of the process', async () => {
  const own = getPriority(process.pid)
  const thread = new TalkingThread(NICE_ANSWERS)
  try {
    const { ofThread, ofProcess } = await thread.ask<{ ofThread: number; ofProcess: number }>({})
    assert.ok(ofThread > own)
    assert.equal(ofProcess, own)
    assert.deepEqual(
      allNice().filter((nice) => nice !== own),
      [ofThread],
    )
  } finally {
    await thread.close()
  }
})

test('the thread that serves guests their disks does not: they wait for it', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nice-'))
  const nbdSocketPath = join(folder, 'images.sock')
  const parts = { places: [], bundleSeed: new Uint8Array(32), threadCount: 1, log: () => {} }
  const jobs = createJobs({ ...parts, nbdSocketPath })
  t.after(async () => {
    await jobs.close()
    await rm(folder, { recursive: true })
  })
  const before = allNice().length
  await jobs.serve()
  const after = allNice()
  assert.ok(after.length > before)
  assert.deepEqual([...new Set(after)], [getPriority(process.pid)])
})
