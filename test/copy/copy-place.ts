import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { TestContext } from 'node:test'
import { waitForTask } from '../../demo/steps.ts'
import type { Client } from '../../src/cli/client.ts'
import type { Digest } from '../../src/image/ids.ts'
import { openDirectoryObjects } from '../../src/objects/directory.ts'
import type { ShownImage, ShownImageWhole, ShownTask } from '../../src/wire/native/show.ts'
import { HOME, inside } from '../e2e/failure-steps.ts'
import { newPlace, type Place, type PlaceOptions, REGIONS } from '../e2e/harness.ts'
import { findOrphans } from '../kill/needed.ts'

/** A server of four regions in folders; its machines are pretended ones, as no test here starts any. */
export interface CopyPlace extends Place {
  readonly imports: string
}

export async function newCopyPlace(
  t: TestContext,
  environment: Readonly<Record<string, string>> = {},
  more: Pick<PlaceOptions, 'wrapper' | 'data'> = {},
): Promise<CopyPlace> {
  const imports = await mkdtemp(join(tmpdir(), 'calo-imports-'))
  let begun: Place | undefined
  // Registered first, so that it runs first: a test that failed may leave copies that last for an hour, or are held.
  t.after(async () => {
    if (begun?.server.process?.exitCode === null) await cancelCopies(begun)
  })
  const place = await newPlace(t, {
    ...more,
    importDirectory: imports,
    environment: {
      ...{ CALOTYPE_HOST_DRIVER: 'simulated', CALOTYPE_DEFAULT_REGION: HOME },
      ...environment,
    },
  })
  begun = place
  t.after(() => rm(imports, { recursive: true, force: true }))
  return Object.assign(place, { imports })
}

async function cancelCopies(place: Place): Promise<void> {
  for (const kind of ['copy-batch', 'copy-image']) {
    const query = { kind, live: true, limit: 500 }
    const { tasks } = await call<{ tasks: ShownTask[] }>(place, 'GET', '/v1/tasks', { query })
    // Some end by themselves meanwhile.
    await Promise.allSettled(tasks.map(({ id }) => call(place, 'DELETE', `/v1/tasks/${id}`)))
  }
}

export interface Copied {
  readonly taskId: string
  readonly copies: readonly { readonly region: string; readonly imageId: string; readonly taskId: string }[]
}

/** Of the server that runs now. */
export const call = <T>(
  place: Place,
  method: Parameters<Client['call']>[0],
  path: string,
  given: object = {},
): Promise<T> => place.server.native.call<T>(method, path, given)

export const beginCopy = (place: Place, imageId: string, wish: object): Promise<Copied> =>
  call(place, 'POST', `/v1/images/${imageId}/copy`, { body: { region: HOME, ...wish } })

export const getImage = (place: Place, region: string, id: string): Promise<ShownImageWhole> =>
  call(place, 'GET', `/v1/images/${id}`, { query: { region } })

export const listImages = async (place: Place, region: string): Promise<readonly ShownImage[]> =>
  (await call<{ images: ShownImage[] }>(place, 'GET', '/v1/images', { query: { region, limit: 500 } })).images

export const getTask = (place: Place, id: string): Promise<ShownTask> => call(place, 'GET', `/v1/tasks/${id}`)

export const retry = (place: Place, id: string): Promise<Copied> =>
  call(place, 'POST', `/v1/tasks/${id}/retry`)

export const deleteImage = (place: Place, region: string, id: string): Promise<unknown> =>
  call(place, 'DELETE', `/v1/images/${id}`, { query: { region } })

/** An image of the home region whose disk holds these bytes. */
export async function importDisk(
  place: CopyPlace,
  name: string,
  bytes: Uint8Array,
): Promise<ShownImageWhole> {
  const fileName = `${name}.raw`
  await writeFile(join(place.imports, fileName), bytes)
  const { imageId, taskId } = await call<{ imageId: string; taskId: string }>(
    place,
    'POST',
    '/v1/images/import',
    {
      body: { region: HOME, name, fileName },
    },
  )
  const task = await waitForTask(place.server, taskId)
  assert.equal(task.state, 'done', task.reason ?? '')
  await rm(join(place.imports, fileName))
  return getImage(place, HOME, imageId)
}

/** A collection of every region that keeps nothing for later. */
export async function collectAll(place: Place): Promise<void> {
  const body = { regions: [...REGIONS], graceHours: 0 }
  const { taskIds } = await call<{ taskIds: string[] }>(place, 'POST', '/v1/store/collect', { body })
  for (const id of taskIds) {
    const task = await waitForTask(place.server, id)
    assert.equal(task.state, 'done', task.reason ?? '')
  }
}

export function sessionsOf(place: Place, region: string): string[] {
  const database = new DatabaseSync(inside(place, `regions/${region}/index.db`), { readOnly: true })
  try {
    return database
      .prepare('SELECT id FROM session')
      .all()
      .map(({ id }) => String(id))
  } finally {
    database.close()
  }
}

/** After a collection: every region holds what its available images need, and nothing else; no session is open. */
export async function assertNoOrphans(place: Place): Promise<void> {
  await collectAll(place)
  for (const region of REGIONS) {
    const digests = (await listImages(place, region)).flatMap(({ digest }) =>
      digest === null ? [] : [digest],
    )
    const folder = inside(place, `regions/${region}/objects`)
    const objects = await openDirectoryObjects({ folder, clean: false })
    assert.deepEqual(await findOrphans(objects, digests as Digest[]), [], `nothing is left in ${region}`)
    assert.deepEqual(sessionsOf(place, region), [], `no session is left in ${region}`)
  }
}
