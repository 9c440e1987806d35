import assert from 'node:assert/strict'
import { open, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { calotype } from '../clean/command.ts'
import {
  api,
  beginCopy,
  bringIn,
  copy,
  done,
  type FlowPlace,
  HOME,
  MIB,
  newDisk,
  newFlowPlace,
  newProject,
} from './flow-place.ts'

/** The one object of this kind in a region's folder. */
async function objectOf(place: FlowPlace, kind: 'images' | 'signatures'): Promise<string> {
  const folder = join(place.data, 'regions', HOME, 'objects', kind)
  const [name, ...more] = await readdir(folder)
  assert(name !== undefined && more.length === 0)
  return join(folder, name)
}

async function flip(path: string, at: number): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at)
    await file.write(Buffer.of((buffer[0] ?? 0) ^ 1), 0, 1, at)
  } finally {
    await file.close()
  }
}

async function packsOf(place: FlowPlace): Promise<readonly string[]> {
  const folder = join(place.data, 'regions', HOME, 'objects/packs')
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries.filter((one) => one.isFile()).map(({ parentPath, name }) => join(parentPath, name))
}

test('an image that the store has not whole is not copied: each door refuses it in its own words, and makes nothing', async (t: TestContext) => {
  const place = await newFlowPlace(t)
  const { server } = place
  const source = await bringIn(place, 'source', newDisk(2 * MIB))
  const other = await newProject(place, 'other')
  const project = source.project
  const core = source.id.replace(/^img-/, '')

  const countOf = async (region: string) =>
    (await api<{ total: number }>(place, 'GET', '/v1/images', { query: { region } })).total
  async function refusedEverywhere(how: string): Promise<void> {
    const count = await countOf('hk')
    await assert.rejects(beginCopy(place, source.id, { targetRegions: ['hk'] }), /damaged in region/, how)
    await assert.rejects(
      beginCopy(place, source.id, { targetRegions: [HOME], targetProject: other }),
      /damaged in region/,
      `${how}: by reference`,
    )
    await assert.rejects(
      server.uhost('CopyCustomImage', {
        ...{ Region: HOME, ProjectId: project, SourceImageId: `uimage-${core}` },
        ...{ TargetProjectId: project, TargetRegion: 'hk' },
      }),
      { retCode: 8960 },
      how,
    )
    await assert.rejects(
      server.wuying('CopyImage', {
        ...{ RegionId: HOME, ImageId: `m-${core}`, DestinationRegionId: 'hk' },
        DestinationImageName: 'copied',
      }),
      { code: 'IncorrectImageStatus' },
      how,
    )
    const where = ['--region', HOME, '--to', 'hk']
    const said = await calotype(place, 'image', 'copy', source.id, ...where)
    assert.equal(said.exitCode, 1, how)
    assert.match(said.stderr, /damaged in region .*calotype store scrub/s)
    const planned = await calotype(place, 'image', 'copy', source.id, ...where, '--dry-run')
    assert.equal(planned.exitCode, 1, how)
    assert.match(planned.stdout, /damaged in region/)
    assert.equal(await countOf('hk'), count, how)
  }

  const image = await objectOf(place, 'images')
  const signature = await objectOf(place, 'signatures')
  for (const path of [image, signature]) {
    const bytes = await readFile(path)
    await rm(path)
    await refusedEverywhere(`${path} is gone`)
    await writeFile(path, bytes)
  }
  await flip(image, 20)
  await refusedEverywhere('the image object has a wrong bit')
  await flip(image, 20)

  // Chunks are not read when a copy is asked for; what a scrub has found is known.
  await copy(place, source.id, { targetRegions: ['cn-shanghai'] })
  const packs = await packsOf(place)
  for (const pack of packs) await flip(pack, 100)
  const scrub = async (isRepairing: boolean) => {
    const body = { regions: [HOME], all: true, repair: isRepairing }
    const { taskIds } = await api<{ taskIds: string[] }>(place, 'POST', '/v1/store/scrub', { body })
    for (const id of taskIds) await done(place, id)
  }
  await scrub(false)
  await refusedEverywhere('chunks are listed as damaged')
  await scrub(true)
  await copy(place, source.id, { targetRegions: ['hk'] })
})
