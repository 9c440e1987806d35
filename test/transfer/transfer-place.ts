import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { waitForTask } from '../../demo/steps.ts'
import type { ShownImageWhole, ShownTask } from '../../src/wire/native/show.ts'
import { HOME } from '../e2e/failure-steps.ts'
import { newPlace, type Place } from '../e2e/harness.ts'

/** A server that takes files in and hands them out; its machines are pretended ones, as no test here starts any. */
export interface TransferPlace extends Place {
  /** Its import folder. */
  readonly imports: string
  /** Where the test may put files of its own. */
  readonly folder: string
}

export async function newTransferPlace(
  t: TestContext,
  environment: Readonly<Record<string, string>> = {},
): Promise<TransferPlace> {
  const imports = await mkdtemp(join(tmpdir(), 'calo-imports-'))
  const folder = await mkdtemp(join(tmpdir(), 'calo-files-'))
  const place = await newPlace(t, {
    importDirectory: imports,
    environment: {
      CALOTYPE_HOST_DRIVER: 'simulated',
      CALOTYPE_DEFAULT_REGION: HOME,
      CALOTYPE_IMPORTS_ALLOW: '127.0.0.1',
      ...environment,
    },
  })
  t.after(() => Promise.all([imports, folder].map((one) => rm(one, { recursive: true, force: true }))))
  return Object.assign(place, { imports, folder })
}

export interface Begun {
  readonly imageId: string
  readonly taskId: string
}

/** Begins an import of a file in the import folder, or of one at an address. */
export const beginImport = (
  place: Place,
  from: { readonly fileName: string } | { readonly url: string },
  name: string,
  wish: object = {},
): Promise<Begun> =>
  place.server.native.call<Begun>('POST', '/v1/images/import', {
    body: { region: HOME, name, ...from, ...wish },
  })

export const getImage = (place: Place, id: string): Promise<ShownImageWhole> =>
  place.server.native.call<ShownImageWhole>('GET', `/v1/images/${id}`, { query: { region: HOME } })

/** The image of an import, once its task has ended well. */
export async function imported(place: Place, { imageId, taskId }: Begun): Promise<ShownImageWhole> {
  const task = await waitForTask(place.server, taskId)
  const image = await getImage(place, imageId)
  assert.equal(task.state, 'done', `${image.name}: ${task.reason}`)
  assert.equal(image.state, 'available')
  return image
}

/** The image's digest, which is there once it is available. */
export function digestOf({ digest, name }: ShownImageWhole): string {
  assert(digest !== null, `${name} has a digest`)
  return digest
}

export const getTask = (place: Place, id: string): Promise<ShownTask> =>
  place.server.native.call<ShownTask>('GET', `/v1/tasks/${id}`)

export const deleteImage = (place: Place, id: string): Promise<unknown> =>
  place.server.native.call('DELETE', `/v1/images/${id}`, { query: { region: HOME } })

/** A collection of the home region that keeps nothing for later; its task has ended well. */
export async function collectNow(place: Place): Promise<void> {
  const body = { regions: [HOME], graceHours: 0 }
  const { taskIds } = await place.server.native.call<{ taskIds: string[] }>('POST', '/v1/store/collect', {
    body,
  })
  for (const id of taskIds) {
    const task = await waitForTask(place.server, id)
    assert.equal(task.state, 'done', task.reason ?? '')
  }
}

/** What the default project is charged. */
export async function chargedBytes(place: Place): Promise<number> {
  const { projects } = await place.server.native.call<{
    projects: { isDefault: boolean; chargedBytes: number }[]
  }>('GET', '/v1/projects')
  const own = projects.find(({ isDefault }) => isDefault)
  assert(own !== undefined)
  return own.chargedBytes
}
