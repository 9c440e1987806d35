import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { ensureRunDirectory } from '../../src/data-directory.ts'
import type { ShownUpload } from '../../src/wire/native/show-transfers.ts'
import { HOME, objectsOf } from '../e2e/failure-steps.ts'
import { idle, type Place } from '../e2e/harness.ts'
import { chargedBytes, collectNow } from './transfer-place.ts'

/** What transfers leave in the run folder while they run: sockets, folders of readers. */
async function runFiles(place: Place): Promise<readonly string[]> {
  const names = await readdir(await ensureRunDirectory(place.data))
  return names.filter((name) => /^read-|\.n\d*$/.test(name))
}

/** QEMU's tools that were started for this server. */
async function toolsOf(place: Place): Promise<readonly string[]> {
  const run = await ensureRunDirectory(place.data)
  const found: string[] = []
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ')
    if (command.startsWith('qemu') && command.includes(run)) found.push(command)
  }
  return found
}

export const uploadsOf = async (place: Place): Promise<readonly ShownUpload[]> => {
  const query = { region: HOME }
  const { uploads } = await place.server.native.call<{ uploads: ShownUpload[] }>('GET', '/v1/uploads', {
    query,
  })
  return uploads
}

/** What the home region holds, but for the keys of its projects, which stay. */
export const contentOf = async (place: Place): Promise<readonly string[]> =>
  (await objectsOf(place, HOME)).filter((name) => !name.startsWith('keys/'))

/** Once no task runs: no upload, no charge, no file or process of a transfer, and the content that was there before. */
export async function assertNothingLeft(place: Place, before: readonly string[]): Promise<void> {
  await idle(place.server)
  assert.deepEqual(
    (await uploadsOf(place)).filter(({ state }) => state === 'receiving'),
    [],
  )
  assert.equal(await chargedBytes(place), 0)
  assert.deepEqual(await runFiles(place), [])
  assert.deepEqual(await toolsOf(place), [])
  await collectNow(place)
  assert.deepEqual(await contentOf(place), before)
}

/** Nothing but images is left of transfers that went well. */
export async function assertNothingRuns(place: Place): Promise<void> {
  await idle(place.server)
  assert.deepEqual(await runFiles(place), [])
  assert.deepEqual(await toolsOf(place), [])
}
