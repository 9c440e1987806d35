import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { Counters } from './counters.ts'

const SCHEDULE_COUNT = 2000
/** One for each core of a small machine: all of it is work. */
const PROCESS_COUNT = 2

/** What has to have happened to somebody, or the schedules have become harmless. */
const DANGERS = [
  'sessions ended under a writer',
  'refs dropped',
  'copies done',
  'recaptures done',
  'composes done',
  'images read meanwhile',
  'collected: repack pack',
  'collected: remove pack',
  'collected: remove page',
  'rewrites: a writer relies on it',
  'condemned objects written again',
  'pins that came too late',
  'late puts',
  'process died: crash',
  'process died: power',
  'process died: index',
  'transactions taken back',
]

test(`${SCHEDULE_COUNT} random schedules lose nothing and leave nothing`, async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 30)
  t.diagnostic(`seeds ${seed} to ${seed + PROCESS_COUNT - 1}`)
  const counters = new Counters()
  const run = async (i: number): Promise<void> => {
    const options = [
      '--schedules',
      String(SCHEDULE_COUNT / PROCESS_COUNT),
      '--seed',
      String(seed + i),
      '--json',
    ]
    const child = spawn(process.execPath, [join(import.meta.dirname, 'run.ts'), ...options])
    const ended = new Promise((resolve) => child.once('close', resolve))
    const [output, errors, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
    assert.equal(code, 0, errors)
    counters.add(JSON.parse(output))
  }
  await Promise.all(Array.from({ length: PROCESS_COUNT }, (_, i) => run(i)))
  t.diagnostic(JSON.stringify(counters.toObject()))
  for (const danger of DANGERS) assert(counters.get(danger) > 0, `${danger}: it happened`)
})
