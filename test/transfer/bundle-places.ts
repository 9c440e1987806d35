import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { bundleKeys } from '../../src/store/bundle/keys.ts'
import { transferKeys } from '../../src/transfers.ts'
import type { ShownImageWhole } from '../../src/wire/native/show.ts'
import { calotype, calotypeJson, type Ran } from '../clean/command.ts'
import { newSmallPlace, type Person, personOf, type SmallPlace } from '../e2e/small-place.ts'
import { HOME } from '../e2e/valid-calls.ts'

/** An installation of its own, used as its operator does: through the command. */
export interface Installation {
  readonly place: SmallPlace
  readonly person: Person
  /** Where its people carry files to and from. */
  readonly folder: string
  /** Hex of the key that its bundles are signed with. */
  readonly signer: string
}

export async function newInstallation(
  t: TestContext,
  environment: Readonly<Record<string, string>> = {},
): Promise<Installation> {
  const folder = await mkdtemp(join(tmpdir(), 'calo-bundle-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const place = await newSmallPlace(t, environment)
  const { bundles } = transferKeys(await readFile(join(place.data, 'transfers.key')))
  return { place, person: personOf(place), folder, signer: bundleKeys(bundles).signerPublic }
}

/** Uploads in progress are noted in a folder of this test, not in that of whoever runs it. */
export async function withOwnState(t: TestContext): Promise<void> {
  const before = process.env.XDG_STATE_HOME
  const folder = await mkdtemp(join(tmpdir(), 'calo-state-'))
  process.env.XDG_STATE_HOME = folder
  t.after(() => {
    if (before === undefined) delete process.env.XDG_STATE_HOME
    else process.env.XDG_STATE_HOME = before
    return rm(folder, { recursive: true, force: true })
  })
}

const home = ['--region', HOME]

/** `image inventory`: the path of the file. */
export async function inventoryOf({ place, folder }: Installation, name: string): Promise<string> {
  const path = join(folder, `${name}.inventory`)
  const said = await calotypeJson<{ file: string; sizeBytes: number }>(
    ...([place, 'image', 'inventory', ...home, '--output', path] as const),
  )
  assert.deepEqual(said, { file: path, sizeBytes: (await stat(path)).size })
  return path
}

/** `image bundle`: the path of the file, and how large it is. */
export async function bundleFor(
  { place, folder }: Installation,
  imageId: string,
  inventory: string,
  name: string,
): Promise<{ readonly path: string; readonly sizeBytes: number }> {
  const path = join(folder, `${name}.bundle`)
  const { signer, ...said } = await calotypeJson<{
    imageId: string
    signer: string
    file: string
    sizeBytes: number
  }>(...([place, 'image', 'bundle', imageId, ...home, '--for', inventory, '--output', path] as const))
  assert.deepEqual(said, { imageId, file: path, sizeBytes: (await stat(path)).size })
  assert.match(signer, /^[0-9a-f]{64}$/)
  return { path, sizeBytes: said.sizeBytes }
}

const importing = (path: string, more: readonly string[]) => [
  ...['image', 'import', path, ...home, '--name', 'carried', ...more],
]

/** `image import` of a file of this computer; answers the image. */
export async function takeIn(
  { place }: Installation,
  path: string,
  ...more: readonly string[]
): Promise<ShownImageWhole> {
  type Said = { readonly image: ShownImageWhole }
  const { image } = await calotypeJson<Said>(place, ...importing(path, more))
  assert.deepEqual([image.state, image.imported?.format], ['available', 'bundle'])
  return image
}

/** The same for a file that must not come well; answers what the command said. */
export async function failToTakeIn(
  { place }: Installation,
  path: string,
  ...more: readonly string[]
): Promise<Ran> {
  const ran = await calotype(place, ...importing(path, more))
  assert.equal(ran.exitCode, 1, `${ran.stdout}${ran.stderr}`)
  return ran
}

/** SHA-256 of what `image export` writes. */
export async function exportedSha256({ place, folder }: Installation, imageId: string): Promise<string> {
  const path = join(folder, `${imageId}.raw`)
  await calotypeJson(place, 'image', 'export', imageId, ...home, '--format', 'raw', '--output', path)
  try {
    const hash = createHash('sha256')
    for await (const bytes of createReadStream(path)) hash.update(bytes as Buffer)
    return hash.digest('hex')
  } finally {
    await rm(path)
  }
}

export async function verifyDeep({ place }: Installation): Promise<void> {
  const { exitCode, stdout, stderr } = await calotype(place, 'verify', '--deep')
  assert.equal(exitCode, 0, `${stdout}${stderr}`)
}
