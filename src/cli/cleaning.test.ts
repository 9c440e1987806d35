import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { reportOf } from '../cleaning/fixture.ts'
import { createSigner } from '../cleaning/signature.ts'
import {
  CLEAN_ALL,
  type CleaningReport,
  describePlace,
  type SignedReport,
  summaryOf,
} from '../image/cleaning.ts'
import { newId } from '../image/ids.ts'
import { fakeImage } from '../wire/native/fixture-nouns.ts'
import { memoryIo, startServer, type TestServer } from './fixture.ts'
import { runCli } from './program.ts'

let server: TestServer
let folder: string
beforeEach(async () => {
  server = await startServer()
  folder = mkdtempSync(join(tmpdir(), 'calo-report-'))
})
afterEach(async () => {
  rmSync(folder, { recursive: true })
  await server.gateway.close()
})

type Json = ReturnType<typeof JSON.parse>
const MACHINE = `vm-${'a'.repeat(17)}`
const IMAGE = `img-${'b'.repeat(17)}`
const sign = createSigner(new Uint8Array(32).fill(7))

async function ok(...argv: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await server.run(...argv)
  assert.equal(exitCode, 0, `${stdout}${stderr}`)
  return stdout
}
const inputOf = (name: string): Json => server.fake.calls.findLast((call) => call.name === name)?.input

/** Without any environment: there is no server to ask. */
async function alone(...argv: string[]) {
  const { io, text } = memoryIo()
  const fail = () => assert.fail('no server is started')
  const exitCode = await runCli(argv, { serve: fail, offline: fail, doctor: fail, peerIdentity: fail, io })
  return { exitCode, stdout: text('stdout'), stderr: text('stderr') }
}

const PLACE = describePlace({ diskIndex: 0, partition: 1 })
const TOLD = [
  'removed    3 files, 4.9 KiB',
  'made zero  64.5 KiB',
  'tools      calotype 0.1.0',
  'phases     look 10 ms, scrub 20 ms',
  '',
  'VOLUME                SIZE  WHAT  LABEL    OUTCOME  WHY',
  `${PLACE}  1 GiB  NTFS  Windows  cleaned`,
  '',
  'Removed',
  `  ${PLACE}`,
  '    \\Users\\alice (profiles, removed): 3 files, 2 directories, 4.9 KiB',
  '      Documents: 2 files, 4 KiB',
  '',
  'Kept',
  `  ${PLACE}`,
  '    \\Users\\Public: kept by rule',
  '',
  'Made zero',
  `  ${PLACE}`,
  '    free clusters: 3 places, 64 KiB',
  '  between volumes: 512 B',
  '',
]

test('an image is made clean, of a machine and of snapshots', async () => {
  const create = ['image', 'create', '--machine', MACHINE]
  await ok(...create)
  assert.equal(inputOf('images.capture').clean, undefined)
  await ok(...create, '--clean', '--name', 'n')
  assert.deepEqual([inputOf('images.capture').clean, inputOf('images.capture').name], [CLEAN_ALL, 'n'])
  await ok(...create, '--clean=-logs', '--best-effort', '--refuse-secrets')
  const { operations, ...how } = inputOf('images.capture').clean
  assert.deepEqual(how, { isBestEffort: true, onSecrets: 'refuse' })
  assert.deepEqual(
    operations,
    CLEAN_ALL.operations.filter((name) => name !== 'logs'),
  )
  server.fake.captured = {
    ...{ consistency: 'crash', cleaning: summaryOf(reportOf({ wish: CLEAN_ALL, isDryRun: false })) },
  }
  assert.match(
    await ok(...create, '--clean', 'windows', '--wait'),
    /^Image img-\w+ is available\.\nConsistency: crash\.\nCleaned: 3 files \(4\.9 KiB\) removed, 64\.5 KiB made zero\.\nWhat went, what was kept, warnings: calotype image report img-\w+\n$/,
  )
  // As it has to be typed, from wherever the image is.
  assert.match(
    await ok(...create, '--clean', '--wait', '--region', 'hk'),
    /: calotype image report img-\w+ --region hk\n$/,
  )
  await ok('image', 'create', '--from-snapshot', `snap-${newId('snapshot')}`, '--clean')
  assert.deepEqual(inputOf('images.compose').clean, CLEAN_ALL)
})

test('a dry run tells what would go, of a machine and of an image', async () => {
  const told = TOLD.slice(5, 8)
    .concat(['To remove'], TOLD.slice(9))
    .join('\n')
    .replace('OUTCOME', 'OUTCOME ')
    .replace('  cleaned', '  to clean')
  const machine = await ok('image', 'create', '--machine', MACHINE, '--dry-run', '--clean=profiles')
  assert.deepEqual(inputOf('images.plan').clean.operations, ['profiles'])
  assert.ok(machine.includes('to remove  3 files, 4.9 KiB\n'), machine)
  assert.ok(machine.includes('asked for  profiles\n'), machine)
  assert.ok(machine.endsWith(`${told}\nNothing was made: this was a dry run.\n`), machine)

  const image = await ok('image', 'clean', IMAGE, '--dry-run', '--best-effort')
  const { clean, imageId } = inputOf('images.planClean')
  assert.deepEqual([clean.isBestEffort, imageId], [true, 'b'.repeat(17)])
  assert.ok(
    image.startsWith('looked at  2026-01-02T03:04:05.000Z, in 1 s\nasked for  everything, as well'),
    image,
  )
  assert.equal(inputOf('images.clean'), undefined)
  const { cleaning, blockers } = JSON.parse(await ok('image', 'clean', IMAGE, '--dry-run', '--json'))
  assert.deepEqual([cleaning.isDryRun, blockers], [true, []])

  server.fake.cleaning.blockers = ['Volume 1 is hibernated.\x1b[2J Shut it down.']
  const blocked = await server.run('image', 'clean', IMAGE, '--dry-run')
  assert.deepEqual(
    [blocked.exitCode, blocked.stdout],
    [1, 'Blocked: Volume 1 is hibernated.?[2J Shut it down.\nNothing was made: this was a dry run.\n'],
  )
})

test('an image is cleaned into a new one; both show and list tell of it', async () => {
  const words = ['--name', 'n', '--description', 'd', '--tag', 't', '--region', 'hk']
  assert.match(
    await ok('image', 'clean', IMAGE, '--operations', 'windows', '--refuse-secrets', ...words),
    /^Image img-\w+ is being made\. Follow it/,
  )
  const { clean, ...rest } = inputOf('images.clean')
  assert.deepEqual(rest, {
    ...{
      regionId: 'hk',
      projectId: undefined,
      imageId: 'b'.repeat(17),
      name: 'n',
      description: 'd',
      tag: 't',
    },
  })
  assert.deepEqual([clean.operations[0], clean.onSecrets], ['profiles', 'refuse'])
  assert.match(
    await ok('image', 'clean', IMAGE, '--wait'),
    /is available\.\nConsistency: crash\.\nCleaned: 3 files/,
  )

  const numbers = { removedFileCount: 1, removedBytes: 5, scrubbedBytes: 2048 }
  const partly = fakeImage({ cleaning: { ...numbers, leftVolumeCount: 2, secretCount: 1, isPartial: true } })
  server.fake.images.set(partly.id, partly)
  assert.match(
    await ok('image', 'show', `img-${partly.id}`),
    /^cleaned {6}1 file \(5 B\) removed, 2 KiB made zero; 2 volumes left as they were; 1 secret found; of a part of what there is to clean$/m,
  )
  const list = await ok('image', 'list')
  assert.match(list, /STORED {2}CLEANED +REGION/)
  assert.match(list, / partly, 2 left {2}/)
  assert.match(list, / yes {10}/)
})

test('the operations are listed without a server', async () => {
  const { exitCode, stdout } = await alone('image', 'clean', '--list')
  assert.equal(exitCode, 0)
  assert.match(stdout, /^OPERATION +GROUP +TAKES AWAY\nprofiles +windows +the directories under \\Users/)
  const { operations } = JSON.parse((await alone('image', 'clean', '--list', '--json')).stdout)
  assert.deepEqual(
    operations.map((one: { name: string }) => one.name),
    CLEAN_ALL.operations,
  )
})

test('a report is shown with its signature, and saved', async () => {
  const file = join(folder, 'report.json')
  const shown = await ok('image', 'report', IMAGE, '--output', file)
  const { keyId } = server.fake.cleaning.report.signature
  assert.equal(
    shown,
    [
      'cleaned    2026-01-02T03:04:05.000Z, in 1 s',
      'asked for  everything',
      ...[...TOLD, `signature: valid, key ${keyId}`, ''],
    ].join('\n'),
  )
  assert.deepEqual(JSON.parse(readFileSync(file, 'utf8')), server.fake.cleaning.report)
  assert.deepEqual(JSON.parse(await ok('image', 'report', IMAGE, '--json')), server.fake.cleaning.report)
  const offline = await alone('image', 'report', '--file', file)
  assert.deepEqual([offline.exitCode, offline.stdout], [0, shown])

  const nowhere = await server.run('image', 'report', IMAGE, '--output', join(folder, 'no', 'file'))
  assert.equal(nowhere.exitCode, 2)
  assert.match(nowhere.stderr, /Cannot write .*ENOENT/)
})

test('what was changed since it was signed is told, with the exit code, by a server or from a file', async () => {
  const { report, signature } = sign(reportOf({ wish: CLEAN_ALL, isDryRun: false }))
  const file = join(folder, 'report.json')
  for (const changed of [
    { report: { ...report, removedBytes: 4999 }, signature },
    { report, signature: { ...signature, publicKey: signature.publicKey.replace(/^../, '00') } },
    { report, signature: { ...signature, value: 'no hex' } },
  ] satisfies SignedReport[]) {
    server.fake.cleaning.report = changed
    writeFileSync(file, JSON.stringify(changed))
    for (const ran of [
      await server.run('image', 'report', IMAGE),
      await alone('image', 'report', '--file', file),
    ]) {
      assert.equal(ran.exitCode, 1)
      assert.match(ran.stdout, /^signature: INVALID/m)
      assert.match(ran.stderr, /not as it was signed/)
    }
    assert.equal((await alone('image', 'report', '--json', '--file', file)).exitCode, 1)
  }
})

test('names from a disk do not move the cursor; what is unusual in a report is told', async () => {
  const odd = '\\Users\\a\x1b[2J\n\u202eb'
  const report: CleaningReport = {
    ...reportOf({ wish: { ...CLEAN_ALL, isBestEffort: true, onSecrets: 'refuse' }, isDryRun: false }),
    volumes: [
      {
        ...{ diskIndex: 1, partition: 0, title: 'XFS', label: odd, sizeBytes: 4096, outcome: 'left' },
        ...{ why: 'unsupported', scrubbed: [] },
      },
    ],
    removed: [
      {
        ...{ volume: 0, path: odd, operation: 'profiles', how: 'unregistered', parts: [] },
        ...{ fileCount: 0, directoryCount: 0, bytes: 0 },
      },
    ],
    // As a signed report has them: by their names.
    phases: { check: 3, edit: 2, look: 1, rest: 4 },
    kept: [],
    secrets: [{ volume: 5, path: odd, kind: 'a private key' }],
    warnings: [odd],
  }
  server.fake.cleaning.report = sign(report)
  const said = await ok('image', 'report', IMAGE)
  const plain = '\\Users\\a?[2J??b'
  const second = describePlace({ diskIndex: 1, partition: 0 })
  assert.ok(!said.includes('\x1b') && !said.includes('\u202e'))
  assert.ok(said.includes('phases     look 1 ms, edit 2 ms, check 3 ms, rest 4 ms\n'), said)
  assert.ok(said.includes('asked for  everything, as well as it can be done, and no secrets\n'), said)
  assert.ok(said.includes(`${second}  4 KiB  XFS   ${plain}  left     unsupported\n`), said)
  assert.ok(said.includes(`\nRemoved\n  ${second}\n    ${plain} (profiles, unregistered)\n`), said)
  assert.ok(said.includes(`\nSecrets in what is kept\n  volume 5\n    ${plain}: a private key\n`), said)
  assert.ok(said.includes(`Warning: ${plain}\n`), said)
  assert.ok(!said.includes('Kept'), said)
})

test('a file that is no report is refused, whoever signed it', async () => {
  const file = join(folder, 'report.json')
  const good = sign(reportOf({ wish: CLEAN_ALL, isDryRun: false }))
  const other = sign({ version: 1, volumes: 7 } as unknown as CleaningReport)
  for (const text of [
    ...['', '{', 'null', '7', '[]', '{}', JSON.stringify(other)],
    ...[JSON.stringify({ report: good.report }), JSON.stringify({ ...good, signature: null })],
    JSON.stringify({ ...good, report: { ...good.report, removed: [{}] } }),
    JSON.stringify({ ...good, report: { ...good.report, phases: { look: 'long' } } }),
  ]) {
    writeFileSync(file, text)
    const { exitCode, stdout, stderr } = await alone('image', 'report', '--file', file)
    assert.deepEqual([exitCode, stdout], [1, ''], text)
    assert.match(stderr, /is no cleaning report that this release knows/)
  }
  const missing = await alone('image', 'report', '--file', join(folder, 'none'))
  assert.deepEqual([missing.exitCode, missing.stdout], [2, ''])
  assert.match(missing.stderr, /ENOENT/)
})

test('what cannot be meant is bad usage', async () => {
  for (const argv of [
    ['create', '--machine', MACHINE, '--best-effort'],
    ['create', '--machine', MACHINE, '--refuse-secrets'],
    ['clean'],
    ['clean', IMAGE, '--list'],
    ['clean', '--list', '--dry-run'],
    ['clean', '--list', '--region', 'hk'],
    ['report'],
    ['report', IMAGE, '--file', 'f'],
    ['report', '--file', 'f', '--output', 'g'],
    ['report', '--file', 'f', '--endpoint', 'http://127.0.0.1:1'],
  ]) {
    const { exitCode, stdout, stderr } = await server.run('image', ...argv)
    assert.deepEqual([exitCode, stdout], [2, ''], argv.join(' '))
    assert.notEqual(stderr, '')
  }
  assert.equal(server.fake.calls.length, 0)
  const unknown = await server.run('image', 'clean', IMAGE, '--operations', 'doors')
  assert.equal(unknown.exitCode, 1)
  assert.match(unknown.stderr, /There is no cleaning 'doors'/)
})
