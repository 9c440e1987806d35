import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import type { RebuiltRow } from '../app/rebuild-catalog.ts'
import { Fault } from '../image/fault.ts'
import type { RegionId } from '../image/ids.ts'
import { PROJECT } from '../wire/native/fixture-nouns.ts'
import type { Offline } from './commands/offline.ts'
import { memoryIo, startServer, type TestServer } from './fixture.ts'
import { runCli } from './program.ts'

let server: TestServer
beforeEach(async () => {
  server = await startServer()
})
afterEach(() => server.gateway.close())

const lastOf = (name: string) =>
  server.fake.calls.findLast((call) => call.name === name)?.input as Record<string, unknown>

test('store gc says what, why and how many bytes, and the sums', async () => {
  const { exitCode, stdout, stderr } = await server.run('store', 'gc', '--region', 'hk', '--grace', '0')
  assert.equal(exitCode, 0, stderr)
  assert.equal(
    stdout,
    'REGION  STEP     WHAT  NAME                    BYTES  WHY\n' +
      'hk      removed  pack  packs/ab/abababababab…  4 KiB  no image needs it\n' +
      '\n' +
      'REGION  STATE  REMOVED  CONDEMNED  WAITING  REPACKED   INTO    LIVE  STORED\n' +
      'hk      done     4 KiB      8 KiB    4 KiB     2 KiB  1 KiB  10 KiB  12 KiB\n',
  )
  assert.match(stderr, /collect-garbage hk: done/)
  const asked = { regionIds: ['hk'], isDryRun: false, graceMs: 0 }
  assert.deepEqual(lastOf('store.collect'), asked)
  const dry = await server.run('store', 'gc', '--dry-run')
  assert.match(dry.stdout, /would remove .*\n(.*\n)*Nothing was changed: this was a dry run\.\n$/)
  assert.deepEqual(lastOf('store.collect'), { regionIds: ['cn-hangzhou', 'hk'], isDryRun: true })
  const { regions } = JSON.parse((await server.run('store', 'gc', '--region', 'hk', '--json')).stdout)
  assert.deepEqual([regions[0].region, regions[0].state, regions[0].removedBytes], ['hk', 'done', 4096])
  server.fake.taskFailure = 'The store is away.'
  const failed = await server.run('store', 'gc')
  assert.equal(failed.exitCode, 1)
  assert.match(failed.stderr, /collect-garbage in cn-hangzhou\) failed: The store is away\.\n$/)
})

test('store scrub fails while anything stays damaged, and names it', async () => {
  const given = ['store', 'scrub', '--region', 'hk', '--rate', '10MB', '--all']
  const { exitCode, stdout, stderr } = await server.run(...given)
  assert.equal(exitCode, 1)
  assert.match(stdout, /^REGION {2}STATE {2}OBJECTS {3}READ {2}DAMAGED {2}MENDED {2}LOST\n/)
  assert.match(stdout, /^hk: lost: image img-0 'golden', disk 0 at byte 4096: Chunk 0a is damaged/m)
  assert.match(stderr, /Something stays damaged/)
  const asked = { regionIds: ['hk'], bytesPerSecond: 10_000_000, all: true, repair: true }
  assert.deepEqual(lastOf('store.scrub'), asked)
  const asJson = await server.run('store', 'scrub', '--no-repair', '--json')
  assert.deepEqual([asJson.exitCode, JSON.parse(asJson.stdout).isWell], [1, false])
  assert.deepEqual([lastOf('store.scrub').repair, lastOf('store.scrub').all], [false, false])
})

test('store usage prints images, projects and regions', async () => {
  const { exitCode, stdout, stderr } = await server.run(
    'store',
    'usage',
    '--region',
    'hk',
    '--project',
    PROJECT,
  )
  assert.equal(exitCode, 0, stderr)
  assert.match(
    stdout,
    /^IMAGE .*LOGICAL {3}DATA {2}STORED {2}UNIQUE {2}SHARED\nimg-\w+ {2}golden {2}org-main/,
  )
  assert.match(stdout, /\nPROJECT .*CHARGED {2}QUOTA\norg-main {2}Default .* 4 KiB {2}8 KiB\n/)
  assert.match(stdout, /\nREGION {2}PACKS {3}LIVE {2}RECLAIMABLE {2}CONDEMNED\nhk .*512 B\n$/)
  assert.deepEqual(lastOf('store.usage'), { projectId: PROJECT, regionIds: ['hk'] })
  const answer = JSON.parse((await server.run('store', 'usage', '--json')).stdout)
  assert.deepEqual([answer.images.length, answer.images[0].project, answer.regions.length], [2, PROJECT, 2])
})

test('project quota takes a size or none', async () => {
  const set = async (size: string) => {
    const { exitCode, stdout } = await server.run('project', 'quota', PROJECT, size)
    return exitCode === 0 ? stdout : exitCode
  }
  const { quotaBytes: _, ...before } = { quotaBytes: 0, projectId: PROJECT }
  assert.equal(await set('2GiB'), `Project ${PROJECT} has a quota of 2 GiB; it is charged 4 KiB.\n`)
  assert.deepEqual(lastOf('projects.setQuota'), { ...before, quotaBytes: 2 * 1024 ** 3 })
  assert.equal(await set('0'), `Project ${PROJECT} has a quota of 0 B; it is charged 4 KiB.\n`)
  assert.equal(await set('none'), `Project ${PROJECT} has no quota; it is charged 4 KiB.\n`)
  assert.deepEqual(lastOf('projects.setQuota'), { ...before, quotaBytes: null })
  assert.equal(await set('much'), 2)
})

const ROWS: readonly RebuiltRow[] = [
  {
    ...{ regionId: 'hk' as RegionId, what: 'image', id: 'a'.repeat(17), name: 'golden' },
    ...{ result: 'restored', why: '' },
  },
  {
    ...{ regionId: 'hk' as RegionId, what: 'ref', id: 'refs/x/1', name: '' },
    ...{ result: 'damaged', why: 'It is damaged.' },
  },
]

async function runOffline(change: Partial<Offline>, ...argv: string[]) {
  const given: unknown[] = []
  const offline: Offline = {
    async rebuildIndex(flags, regions, tell) {
      given.push(flags, regions)
      tell('hk: 1 packs')
      return [{ regionId: 'hk', packCount: 1, chunkCount: 12, imageCount: 1, refCount: 2, damaged: [] }]
    },
    async rebuildCatalog(flags, regions, tell) {
      given.push(flags, regions)
      tell('hk: 1 of 1 images looked at')
      return ROWS
    },
    ...change,
  }
  const { io, text } = memoryIo()
  const exitCode = await runCli(argv, {
    serve: async () => undefined,
    offline: async () => offline,
    doctor: async () => [],
    peerIdentity: async () => assert.fail('store asks for nothing of it'),
    io,
  })
  return { exitCode, given, stdout: text('stdout'), stderr: text('stderr') }
}

test('store rebuild-index takes the flags of serve, and prints what it found', async () => {
  const argv = ['store', 'rebuild-index', '--data', '/d', '--host-driver', 'files', '--region', 'hk']
  const { exitCode, given, stdout, stderr } = await runOffline({}, ...argv)
  assert.equal(exitCode, 0, stderr)
  assert.deepEqual(given, [{ data: '/d', hostDriver: 'files' }, ['hk']])
  assert.equal(
    stdout,
    'REGION  PACKS  CHUNKS  IMAGES  REFS  DAMAGED\n' + 'hk          1      12       1     2        0\n',
  )
  assert.equal(stderr, 'hk: 1 packs\n')
})

test('store rebuild-catalog prints each row, and fails if something is damaged', async () => {
  const { exitCode, stdout, stderr } = await runOffline({}, 'store', 'rebuild-catalog', '--data', '/d')
  assert.equal(exitCode, 1)
  assert.equal(
    stdout,
    'REGION  WHAT   ID                     NAME    RESULT    WHY\n' +
      `hk      image  img-${'a'.repeat(17)}  golden  restored\n` +
      'hk      ref    refs/x/1                       damaged   It is damaged.\n' +
      'Users, keys, policies, quotas and tasks are not kept in the regions. If the catalog is new, the next start of ' +
      'the server writes its first access key.\n',
  )
  assert.match(stderr, /Something is damaged/)
  const asJson = await runOffline({}, 'store', 'rebuild-catalog', '--json')
  assert.deepEqual(JSON.parse(asJson.stdout), ROWS)
  const refused = await runOffline(
    { rebuildCatalog: () => Promise.reject(new Fault('conflict', 'Another server uses /d.')) },
    ...['store', 'rebuild-catalog', '--data', '/d'],
  )
  assert.deepEqual([refused.exitCode, refused.stderr], [1, 'calotype: Another server uses /d.\n'])
})
