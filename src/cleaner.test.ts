import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createCleanerOf } from './cleaner.ts'
import { TOOL_MISSING } from './host/tools/run.ts'
import { ALL_OPERATIONS } from './image/cleaning.ts'
import { isFault } from './image/fault.ts'
import { parseSettings } from './settings.ts'

const never = new AbortController().signal

for (const acceleration of ['auto', 'tcg'] as const) {
  test(`without QEMU nothing is cleaned, but everything closes (${acceleration})`, async (t) => {
    const data = await mkdtemp(join(tmpdir(), 'calo-'))
    t.after(() => rm(data, { recursive: true, force: true }))
    const { PATH } = process.env
    process.env.PATH = data
    t.after(() => {
      process.env.PATH = PATH
    })
    const settings = parseSettings({
      environment: { CALOTYPE_DATA: data },
      flags: {},
      file: { path: 'test', text: `host:\n  acceleration: ${acceleration}\n` },
    })
    const cleaner = createCleanerOf(settings, join(data, 'r'), () => {})
    const isMissing = (error: unknown) => isFault(error, 'unavailable') && error.reason === TOOL_MISSING
    const close = async () => {
      await cleaner.close('task1')
      await cleaner.closeAll()
    }
    await close()
    await assert.rejects(cleaner.enter('task1', never), isMissing)
    const wish = { operations: ALL_OPERATIONS, isBestEffort: false, onSecrets: 'report' } as const
    const request = { key: 'task1', disks: [], wish, isDryRun: false }
    await assert.rejects(
      cleaner.clean(request, () => {}, never),
      isMissing,
    )
    await close()
    assert.deepEqual(await readdir(data), [])
  })
}
