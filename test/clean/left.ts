import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ensureRunDirectory } from '../../src/data-directory.ts'
import { searchFile, searchFolder, told } from '../disks/search.ts'
import type { Tokens } from '../disks/tokens.ts'
import { HOME } from '../e2e/failure-steps.ts'
import type { Place } from '../e2e/harness.ts'
import { searchStore } from './store-search.ts'

/** What a server keeps that may hold words of its disks: the disks of machines themselves. */
const MACHINES = 'machines'

/** No chunk of the home region's store has anything that had to go, and some have what had to stay. */
export async function assertStoreIsClean(place: Place, tokens: Tokens): Promise<void> {
  const { chunkCount, found } = await searchStore(place.data, HOME, tokens)
  assert(chunkCount > 0)
  for (const { chunk, found: one } of found)
    assert.equal(one.gone.count, 0, `chunk ${chunk}: ${told(one.gone)}`)
  assert(
    found.some(({ found: one }) => one.kept.count > 0),
    'the search sees what is kept',
  )
}

/** Nothing of a cleaning is left: no process, no file in scratch folders, no word in any file of the server. */
export async function assertNothingLeft(place: Place, tokens?: Tokens): Promise<void> {
  const left = await filesOfCleanings(place)
  assert.deepEqual(left, [])
  assert.deepEqual(await processesOf(place), [])
  if (tokens === undefined) return
  for (const entry of await readdir(place.data, { withFileTypes: true })) {
    if (entry.name === MACHINES) continue
    const path = join(place.data, entry.name)
    if (entry.isFile()) assert.equal((await searchFile(path, tokens)).gone.count, 0, path)
    if (!entry.isDirectory()) continue
    for (const one of await searchFolder(path, tokens)) assert.equal(one.found.gone.count, 0, one.path)
  }
}

/** Overlays, sockets and pids; not what the appliance is made of, which is kept. */
async function filesOfCleanings(place: Place): Promise<readonly string[]> {
  const scratch = await readdir(join(place.data, 'cleaning'), { recursive: true }).catch(() => [])
  const sockets = await readdir(await ensureRunDirectory(place.data))
  return [...scratch, ...sockets.filter((name) => name.startsWith('clean-'))]
}

/** Programs that were started for this server's cleanings. */
async function processesOf(place: Place): Promise<readonly string[]> {
  const run = await ensureRunDirectory(place.data)
  const found: string[] = []
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ')
    if (command.includes(`${run}/clean-`) || command.includes(join(place.data, 'cleaning')))
      found.push(command)
  }
  return found
}
