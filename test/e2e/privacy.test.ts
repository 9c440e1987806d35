import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { idle } from './harness.ts'
import { good, launch, newSmallPlace, personOf, type SmallPlace, taskEnd } from './small-place.ts'
import { AWAY, HOME } from './valid-calls.ts'

const CHUNK_BYTES = 256 * 1024
const MARKERS = [
  'PLANTED-in-zeroes-7c1e',
  'PLANTED-in-noise-91ab',
  'PLANTED-in-text-44d0',
  'PLANTED-at-the-end-e5f2',
]

/** A disk with a marker in zeroes, in what cannot be compressed, in what compresses well, and in its last bytes. */
function markedDisk(): Buffer {
  const [zeroes = '', noise = '', text = '', end = ''] = MARKERS
  const disk = Buffer.alloc(16 * CHUNK_BYTES)
  disk.write(zeroes, 5000)
  randomBytes(4 * CHUNK_BYTES).copy(disk, 2 * CHUNK_BYTES)
  for (let i = 0; i < 4; i++) disk.write(noise, (2 + i) * CHUNK_BYTES + 70_000 * i)
  disk.fill(`a line of ${text} \n`, 8 * CHUNK_BYTES, 12 * CHUNK_BYTES)
  disk.write(end, disk.length - end.length)
  return disk
}

/** Which markers are in the files below a folder, as bytes or as UTF-16. */
async function findMarkers(folder: string): Promise<string[]> {
  const found = new Set<string>()
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    let tail = ''
    for await (const bytes of createReadStream(join(entry.parentPath, entry.name))) {
      const text = tail + (bytes as Buffer).toString('latin1')
      for (const marker of MARKERS) {
        const wide = Buffer.from(marker, 'utf16le').toString('latin1')
        if (text.includes(marker) || text.includes(wide)) found.add(marker)
      }
      tail = text.slice(-100)
    }
  }
  return [...found]
}

/** Imports the marked disk, copies its image to another region, starts a machine from it and captures that. */
async function use(place: SmallPlace): Promise<void> {
  const root = personOf(place)
  await writeFile(join(place.importDirectory, 'marked.raw'), markedDisk())
  const made = async (path: string, body: unknown) => {
    const { imageId, taskId } = await good<{ imageId: string; taskId: string }>(
      root.native('POST', path, { body }),
    )
    const task = await taskEnd(root, taskId)
    assert.equal(task.state, 'done', task.reason ?? '')
    return imageId
  }
  const file = { region: HOME, fileName: 'marked.raw', name: 'marked' }
  await made('/v1/images/import', { ...file, kind: 'custom' })
  const base = await made('/v1/images/import', { ...file, kind: 'base' })
  const [machine = ''] = await launch(root, base)
  const captured = await made('/v1/images/capture', { region: HOME, machineId: machine, name: 'captured' })
  const copy = { region: HOME, targetRegions: [AWAY], name: 'copied' }
  await good(root.native('POST', `/v1/images/${captured}/copy`, { body: copy }))
  await idle(place.server)
}

test('no file of the data directory holds a word of a captured disk', async (t: TestContext) => {
  const place = await newSmallPlace(t)
  await use(place)
  assert.deepEqual(await findMarkers(place.data), [])
  await place.restart()
  assert.deepEqual(await findMarkers(place.data), [])
})

test('without encryption the same search finds what was not compressed', async (t: TestContext) => {
  const place = await newSmallPlace(t, { CALOTYPE_ENCRYPTION: 'off' })
  await use(place)
  assert.ok((await findMarkers(place.data)).includes('PLANTED-in-noise-91ab'))
})
