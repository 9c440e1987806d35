import assert from 'node:assert/strict'
import { copyFile, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import PopCore from '@alicloud/pop-core'
import { findImage, waitForTask } from '../../demo/steps.ts'
import type { CaptureReport } from '../../src/app/contract.ts'
import type { CleaningReport, SignedReport } from '../../src/image/cleaning.ts'
import type { ShownImage, ShownImageWhole } from '../../src/wire/native/show.ts'
import { withNtfs } from '../disks/mounted.ts'
import { buildNtfs, type NtfsDisk } from '../disks/ntfs.ts'
import { Tokens } from '../disks/tokens.ts'
import { digestOf } from '../disks/tree.ts'
import { HOME } from '../e2e/failure-steps.ts'
import { newSeed } from '../live/seed.ts'
import { calotype, calotypeFile, calotypeJson } from './command.ts'
import { assertNothingLeft } from './left.ts'
import { assertCleanNtfs } from './ntfs-checks.ts'
import { captureClean, exportDisk, type FilesPlace, newFilesPlace, reportOf } from './place.ts'

const MIB = 1024 ** 2
const ELSEWHERE = 'hk'
const KEY_PLACE = '\\deploy_ed25519'

// Every way to a cleaned image that people have beside the newer official client, over one small Windows disk.

interface Office {
  readonly place: FilesPlace
  readonly tokens: Tokens
  readonly disk: NtfsDisk
  /** The bytes of a private key that a second machine has, besides all that the first has. */
  readonly key: string
  readonly ids: { readonly plain: string; readonly secret: string }
}

async function newOffice(t: TestContext): Promise<Office> {
  const tokens = new Tokens(newSeed(t))
  const key = Buffer.from(tokens.newKept('key').repeat(4)).toString('base64')
  let disk: NtfsDisk | undefined
  const place = await newFilesPlace(t, async (machines) => {
    const path = join(machines, 'plain.raw')
    disk = await buildNtfs({ path, sizeBytes: 128 * MIB, tokens, withHive: true })
    const other = join(machines, 'secret.raw')
    await copyFile(path, other)
    const text = `-----BEGIN OPENSSH PRIVATE ${'KEY'}-----\n${key}\n-----END OPENSSH PRIVATE ${'KEY'}-----\n`
    await withNtfs(other, (mounted) => writeFile(join(mounted, KEY_PLACE.slice(1)), text))
  })
  assert(disk !== undefined)
  const ids = { plain: (await place.machine('plain')).id, secret: (await place.machine('secret')).id }
  return { place, tokens, disk, key, ids }
}

/** WUYING through the older official client: V1 signature, GET, everything in the query as text. */
async function createByPopCore(place: FilesPlace, parameters: Record<string, string>): Promise<ShownImage> {
  const { key, endpoint } = place.server
  const client = new PopCore({ ...key, endpoint: endpoint.origin, apiVersion: '2020-09-30' })
  const query = { RegionId: HOME, AutoCleanUserdata: 'true', ...parameters }
  const made = await client.request<{ ImageId: string }>('CreateImage', query, { method: 'GET' })
  const { taskId } = await findImage(place.server, HOME, made.ImageId)
  const task = await waitForTask(place.server, taskId ?? '')
  assert.equal(task.state, 'done', task.reason ?? '')
  return findImage(place.server, HOME, made.ImageId)
}

/** What a report says is to be done or was done, without when and how long. */
const planOf = ({ wish, removed, kept, secrets, warnings, ...report }: CleaningReport) => ({
  ...{ wish, removed, kept, secrets, warnings },
  removedFileCount: report.removedFileCount,
  removedBytes: report.removedBytes,
  volumes: report.volumes.map(({ scrubbed: _, ...volume }) => volume),
})

/** The disk of an image as a client of the server's exports gets it, and the digest of its bytes. */
async function withDisk(
  place: FilesPlace,
  image: ShownImage,
  look: (path: string) => Promise<void> = async () => {},
): Promise<string> {
  const path = join(place.folder, `${image.id}.raw`)
  try {
    await exportDisk(place, image, 0, path)
    await look(path)
    return await digestOf(path)
  } finally {
    await rm(path, { force: true })
  }
}

test('every door makes the same cleaned image, and tells of it in the same words', async (t) => {
  const office = await newOffice(t)
  const { place, tokens, disk, ids } = office
  const home = ['--region', HOME]

  const planned = await calotypeJson<CaptureReport>(
    place,
    ...['image', 'create', ...home, '--machine', ids.plain, '--clean', '--dry-run'],
  )
  assert(planned.cleaning !== null)
  assert.equal(planned.cleaning.isDryRun, true)
  assert(planned.cleaning.removedFileCount > 1000)

  const captured = await createByPopCore(place, { DesktopId: ids.plain, ImageName: 'by-v1' })
  const { report } = await reportOf(place, captured)
  const digest = await withDisk(place, captured, (path) => assertCleanNtfs(path, disk, tokens))

  await t.test('a dry run tells what the image then is', () => {
    assert.deepEqual(planOf(planned.cleaning as CleaningReport), planOf(report))
    assert.equal(report.isDryRun, false)
  })

  await t.test('of a snapshot', async () => {
    type Made = { readonly tasks: readonly { readonly snapshotId: string }[] }
    const argv = ['snapshot', 'create', ...home, '--machine', ids.plain, '--name', 'before', '--wait']
    const { tasks } = await calotypeJson<Made>(place, ...argv)
    const SnapshotId = tasks[0]?.snapshotId.replace(/^snap-/, 's-') ?? ''
    const composed = await createByPopCore(place, { SnapshotId, ImageName: 'of-snapshot' })
    assert.equal(await withDisk(place, composed), digest, 'the same bytes as of the machine')
    assert.deepEqual(planOf((await reportOf(place, composed)).report), planOf(report))
  })

  await t.test('of an image, which is its parent', async () => {
    type Made = { readonly imageId: string }
    const argv = ['image', 'create', ...home, '--machine', ids.plain, '--name', 'raw', '--wait']
    const raw = await calotypeJson<Made>(place, ...argv)
    const clean = ['image', 'clean', ...home, raw.imageId]
    const onPaper = await calotypeJson<{ cleaning: CleaningReport }>(place, ...clean, '--dry-run')
    const made = await calotypeJson<Made>(place, ...clean, '--wait')

    const shown = await calotypeJson<ShownImageWhole>(place, 'image', 'show', ...home, made.imageId)
    const parent = await findImage(place.server, HOME, raw.imageId)
    assert.equal(shown.name, 'raw-clean')
    assert.equal(shown.sourceImageId, raw.imageId)
    assert.deepEqual(shown.lineage, [{ id: raw.imageId, digest: parent.digest, name: 'raw' }])
    assert.equal(parent.cleaning, null)
    assert.equal(await withDisk(place, shown), digest, 'the same bytes as of the machine')
    const signed = await reportOf(place, shown)
    assert.deepEqual(planOf(signed.report), planOf(report))
    assert.deepEqual(planOf(onPaper.cleaning), planOf(report))

    await assertReportTravels(place, made.imageId, signed)
    const none = await calotype(place, 'image', 'report', ...home, raw.imageId)
    assert.equal(none.exitCode, 1)
    assert.match(none.stderr, /never cleaned/)
  })
  await t.test('a secret in what is kept is told by place and kind, or refuses the image', () =>
    assertSecretsAreTold(office),
  )
  await assertNothingLeft(place)
})

/** A copy in another region has the very report, which a saved file proves without a server. */
async function assertReportTravels(place: FilesPlace, imageId: string, signed: SignedReport): Promise<void> {
  type Copies = { readonly tasks: readonly { readonly kind: string; readonly imageId: string | null }[] }
  const argv = ['image', 'copy', '--region', HOME, imageId, '--to', ELSEWHERE, '--wait']
  const { tasks } = await calotypeJson<Copies>(place, ...argv)
  const copyId = tasks.find(({ kind }) => kind === 'copy-image')?.imageId ?? ''
  const file = join(place.folder, 'report.json')
  const report = ['image', 'report', '--region', ELSEWHERE, copyId, '--output', file]
  assert.deepEqual(await calotypeJson<SignedReport>(place, ...report), signed)
  const checked = await calotypeFile('image', 'report', '--file', file)
  assert.equal(checked.exitCode, 0, checked.stderr)
  assert.match(checked.stdout, new RegExp(`signature: valid, key ${signed.signature.keyId}\\n$`))

  const { removedFileCount } = signed.report
  await writeFile(file, JSON.stringify({ ...signed, report: { ...signed.report, removedFileCount: 1 } }))
  const forged = await calotypeFile('image', 'report', '--file', file)
  assert.equal(forged.exitCode, 1, `${removedFileCount} files became one`)
  assert.match(forged.stderr, /not as it was signed/)
}

async function assertSecretsAreTold({ place, key, ids }: Office): Promise<void> {
  const found = { volume: 0, path: KEY_PLACE, kind: 'SSH private key (encrypted)' }

  const image = await captureClean(place, ids.secret, 'told', { secrets: 'report' })
  const { report } = await reportOf(place, image)
  assert.deepEqual(report.secrets, [found])
  assert.equal(image.cleaning?.secretCount, 1)

  const refused = [
    'image',
    'create',
    '--region',
    HOME,
    '--machine',
    ids.secret,
    '--clean',
    '--refuse-secrets',
  ]
  for (const argv of [
    [...refused, '--name', 'refused', '--wait'],
    ['image', 'clean', '--region', HOME, image.id, '--refuse-secrets', '--name', 'refused-too', '--wait'],
  ]) {
    const { exitCode, stderr } = await calotype(place, ...argv)
    assert.equal(exitCode, 1)
    assert(stderr.includes(KEY_PLACE), stderr)
    assert.match(stderr, /SSH private key/)
  }
  type List = { readonly images: readonly ShownImage[] }
  const { images } = await calotypeJson<List>(place, 'image', 'list', '--region', HOME)
  assert.deepEqual(
    images.filter(({ name }) => name.startsWith('refused')).map(({ state, digest }) => [state, digest]),
    Array(2).fill(['failed', null]),
  )

  // On paper it stands in the way, as it would.
  const onPaper = await calotype(place, ...refused, '--dry-run')
  assert.equal(onPaper.exitCode, 1)
  assert(onPaper.stdout.includes(KEY_PLACE), onPaper.stdout)

  const log = await readFile(join(place.data, 'server.log'), 'utf8')
  for (const text of [JSON.stringify(report), JSON.stringify(images), log])
    assert(!text.includes(key), 'a place and a kind, never the key')
}
