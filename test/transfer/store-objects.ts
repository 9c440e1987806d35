import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { idle } from '../e2e/harness.ts'
import { good, personOf, type SmallPlace, taskEnd } from '../e2e/small-place.ts'
import { HOME } from '../e2e/valid-calls.ts'

/** Every object of the home region but wrapped keys, which are never taken away, once what nobody needs is collected. */
export async function objectsOf(place: SmallPlace): Promise<readonly string[]> {
  await idle(place.server)
  const root = personOf(place)
  const body = { regions: [HOME], graceHours: 0 }
  const { taskIds } = await good<{ taskIds: string[] }>(root.native('POST', '/v1/store/collect', { body }))
  assert.equal(taskIds.length, 1)
  for (const taskId of taskIds) assert.equal((await taskEnd(root, taskId)).state, 'done')
  const folder = join(place.data, 'regions', HOME, 'objects')
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name).slice(folder.length + 1))
    .filter((name) => !name.startsWith('keys/'))
    .sort()
}

/** The names of other installations' domains whose keys the home region keeps. */
export async function foreignDomainsOf(place: SmallPlace): Promise<readonly string[]> {
  const names = await readdir(join(place.data, 'regions', HOME, 'objects', 'keys'))
  return names.filter((name) => name.startsWith('foreign-'))
}
