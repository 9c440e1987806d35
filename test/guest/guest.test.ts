import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { GUEST_FOLDER, ROOT_START_BYTES } from '../live/debian.ts'
import { assertClean } from '../live/disks.ts'

const build = () => promisify(execFile)(join(import.meta.dirname, 'build.sh'), [GUEST_FOLDER])

test('the Debian guest is built once, sparse and with a clean file system', async () => {
  const path = (await build()).stdout.trim()
  const first = await stat(path)
  assert.equal(first.size, 1216 * 1024 ** 2)
  assert(first.blocks * 512 < 400 * 1024 ** 2, `${first.blocks * 512} bytes of data`)
  await assertClean(path, ROOT_START_BYTES)
  const { stdout, stderr } = await build()
  const second = await stat(path)
  assert.deepEqual([stdout.trim(), stderr], [path, ''])
  assert.deepEqual([second.ino, second.mtimeMs], [first.ino, first.mtimeMs])
})
