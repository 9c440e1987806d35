import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openSqliteCatalog } from '../catalog/sqlite.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { Digest, ImageId, ProjectId, RegionId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import type { Caller } from './contract.ts'
import type { Guard } from './guard.ts'
import { insertImage, type NewImage } from './new-image.ts'
import { createPeerReading } from './peer-reading.ts'
import { createPeers } from './peers.ts'

const HOME = 'cn-hangzhou' as RegionId

const IMAGE: NewImage = {
  ...{ projectId: 'org-a' as ProjectId, regionId: HOME, kind: 'custom', origin: 'capture' },
  ...{ name: 'golden', osType: 'Linux', osName: 'Debian 12', tag: 'web' },
  disks: [{ index: 0, sizeBytes: 2 ** 30, bus: 'virtio-scsi' }],
  labels: [{ key: 'team', value: 'a' }],
}

async function withReading(
  body: (world: {
    readonly reading: ReturnType<typeof createPeerReading>
    /** An image whose content is a digest of this letter; available unless said otherwise. */
    readonly add: (
      letter: string,
      image?: Partial<NewImage>,
      state?: Image['state']['at'],
    ) => Promise<ImageId>
  }) => Promise<void>,
): Promise<void> {
  const catalog = await openSqliteCatalog(':memory:')
  const parts = { imagesPerRegionMax: 100, clock: () => 0 }
  try {
    await body({
      reading: createPeerReading(catalog),
      async add(letter, image = {}, state = 'available') {
        const id = await insertImage(parts, catalog.rows, { ...IMAGE, ...image })
        const digest = state === 'available' ? digestOf(letter) : null
        const set = { state, digest, dataBytes: 1000, storedBytes: 500, consistency: 'filesystem' }
        await catalog.rows.updateTable('image').set(set).where('id', '=', id).execute()
        return id
      },
    })
  } finally {
    await catalog.close()
  }
}

const digestOf = (letter: string) => letter.repeat(64) as Digest
const isAbsent = (error: unknown) => isFault(error, 'absent') && error.subject === 'image'

test('a peer is told of available images of its projects and of base images, in their region alone', () =>
  withReading(async ({ reading, add }) => {
    const own = await add('a')
    const other = await add('b', { projectId: 'org-b' as ProjectId })
    const base = await add('c', { projectId: 'org-b' as ProjectId, kind: 'base' })
    const { digest, facts } = await reading.image(HOME, own, ['org-a'])
    assert.equal(digest, digestOf('a'))
    assert.equal(facts.name, 'golden')
    assert.equal(facts.consistency, 'filesystem')
    assert.deepEqual(facts.disks, IMAGE.disks)
    assert.deepEqual(facts.labels, IMAGE.labels)
    assert.equal(facts.dataBytes, 1000)
    // Neither whose it is nor when it was made is of any use to others.
    assert.ok(!('projectId' in facts) && !('createdAtMs' in facts))
    assert.equal((await reading.image(HOME, base, ['org-a'])).digest, digestOf('c'))
    assert.equal((await reading.image(HOME, base, [])).digest, digestOf('c'))
    assert.equal((await reading.image(HOME, other, 'all')).digest, digestOf('b'))
    await assert.rejects(reading.image(HOME, other, ['org-a']), isAbsent)
    await assert.rejects(reading.image(HOME, own, []), isAbsent)
    await assert.rejects(reading.image('hk', own, 'all'), isAbsent)
    const may = (letter: string, projects: readonly string[] | 'all', region: string = HOME) =>
      reading.mayRead(region, digestOf(letter), projects)
    assert.deepEqual(
      [
        await may('a', ['org-a']),
        await may('c', []),
        await may('b', 'all'),
        await may('b', ['org-a', 'org-b']),
      ],
      [true, true, true, true],
    )
    assert.deepEqual(
      [await may('b', ['org-a']), await may('a', []), await may('a', 'all', 'hk'), await may('d', 'all')],
      [false, false, false, false],
    )
  }))

test('what is not available yet is told to whom it will be for, and to nobody else', () =>
  withReading(async ({ reading, add }) => {
    const made = await add('a', {}, 'creating')
    await assert.rejects(reading.image(HOME, made, ['org-a']), (error) => isFault(error, 'conflict'))
    await assert.rejects(reading.image(HOME, made, ['org-b']), isAbsent)
    assert.equal(await reading.mayRead(HOME, digestOf('a'), 'all'), false)
  }))

test('a content that two projects have is read through the one that may be read', () =>
  withReading(async ({ reading, add }) => {
    await add('a')
    assert.equal(await reading.mayRead(HOME, digestOf('a'), ['org-b']), false)
    await add('a', { projectId: 'org-b' as ProjectId })
    assert.equal(await reading.mayRead(HOME, digestOf('a'), ['org-b']), true)
  }))

test('the list of peers says of each whether it answers, and why not', async () => {
  const away = async () => {
    throw new Fault('unavailable', 'Peer mars does not answer (ECONNREFUSED).', { subject: 'peer' })
  }
  const admitted: string[] = []
  const guard = {
    admit: async (_caller: Caller, useCase: string) => {
      admitted.push(useCase)
      return 'org-a' as ProjectId
    },
  } as unknown as Guard
  const peers = createPeers(
    [
      { name: 'mars', url: 'https://mars:1', client: { regions: away } },
      { name: 'moon', url: 'https://moon:1', client: { regions: async () => ['sea'] } },
    ],
    guard,
  )
  assert.deepEqual(await peers.list({} as Caller), [
    {
      ...{ name: 'mars', url: 'https://mars:1', regions: [] },
      reason: 'Peer mars does not answer (ECONNREFUSED).',
    },
    { name: 'moon', url: 'https://moon:1', regions: ['sea'], reason: undefined },
  ])
  assert.deepEqual(admitted, ['peers.list'])
})
