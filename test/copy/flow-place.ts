import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { waitForTask } from '../../demo/steps.ts'
import type { ShownImageWhole, ShownTask } from '../../src/wire/native/show.ts'
import { calotypeJson } from '../clean/command.ts'
import { newPlace, type Place, REGIONS } from '../e2e/harness.ts'

export const MIB = 1024 ** 2
export const CHUNK_BYTES = 256 * 1024
/** Where disks are brought in. */
export const HOME = 'cn-hangzhou'
/** The lowest limit that there is: a copy of a megabyte lasts longer than a test looks at it. */
export const SLOWEST = 65_536
const WAIT_MS = 60_000

export interface FlowSettings {
  /** Regions beside the four of every test, and what any of them has beside its name. */
  readonly regions?: Readonly<Record<string, object>>
  /** The rest of the settings file. */
  readonly file?: object
  readonly environment?: Readonly<Record<string, string>>
  readonly data?: string
}

/** A real server with a settings file, and a folder for what people carry around. */
export interface FlowPlace extends Place {
  readonly folder: string
  readonly imports: string
  /** Another settings file from the next start on. */
  configure(settings: Pick<FlowSettings, 'regions' | 'file'>): Promise<void>
}

/** Settings as YAML, which JSON is. */
function textOf({ regions = {}, file = {} }: Pick<FlowSettings, 'regions' | 'file'>): string {
  const ids = [...new Set([...REGIONS, ...Object.keys(regions)])]
  const all = ids.map((id) => [id, { name: id, zones: [`${id}-01`], ...regions[id] }])
  return JSON.stringify({ defaultRegion: HOME, regions: Object.fromEntries(all), ...file })
}

/** After the test everything in every region is verified, down to the bytes. */
export async function newFlowPlace(t: TestContext, settings: FlowSettings = {}): Promise<FlowPlace> {
  const folder = await mkdtemp(join(tmpdir(), 'calo-flow-'))
  const imports = await mkdtemp(join(tmpdir(), 'calo-imports-'))
  const path = join(folder, 'calotype.yaml')
  const configure = (changed: Pick<FlowSettings, 'regions' | 'file'>) => writeFile(path, textOf(changed))
  await configure(settings)
  const place = await newPlace(t, {
    importDirectory: imports,
    ...(settings.data === undefined ? {} : { data: settings.data }),
    wrapper: () => ['sh', '-c', `exec "$@" --config ${path}`, 'sh'],
    environment: { CALOTYPE_HOST_DRIVER: 'simulated', ...settings.environment },
  })
  t.after(() => Promise.all([folder, imports].map((one) => rm(one, { recursive: true, force: true }))))
  return Object.assign(place, { folder, imports, configure })
}

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** Noise, with a hole in its middle. */
export function newDisk(sizeBytes: number): Buffer {
  const disk = randomBytes(sizeBytes)
  disk.fill(0, sizeBytes / 2, sizeBytes / 2 + CHUNK_BYTES)
  return disk
}

/** What every call of ours answers about an image or a task that is to be made. */
export interface Asked {
  readonly taskId: string
  readonly copies: readonly { readonly region: string; readonly imageId: string; readonly taskId: string }[]
}

export const api = <T>(
  place: Place,
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
  path: string,
  given = {},
) => place.server.native.call<T>(method, path, given)

/** Brings a disk in; answers its image, which is available. */
export async function bringIn(
  place: FlowPlace,
  name: string,
  disk: Buffer,
  wish: object = {},
): Promise<ShownImageWhole> {
  await writeFile(join(place.imports, `${name}.raw`), disk)
  const body = { region: HOME, fileName: `${name}.raw`, name, ...wish }
  const made = await api<{ imageId: string; taskId: string }>(place, 'POST', '/v1/images/import', { body })
  await done(place, made.taskId)
  return imageOf(place, HOME, made.imageId)
}

export const imageOf = (place: Place, region: string, id: string, project?: string) =>
  api<ShownImageWhole>(place, 'GET', `/v1/images/${id}`, { query: { region, project } })

export const taskOf = (place: Place, id: string) => api<ShownTask>(place, 'GET', `/v1/tasks/${id}`)

export async function done(place: Place, taskId: string): Promise<ShownTask> {
  const task = await waitForTask(place.server, taskId)
  assert.equal(task.state, 'done', `${task.kind} to ${task.region}: ${task.reason}`)
  return task
}

/** Begins copies. `wish`: the members of the request. */
export const beginCopy = (place: Place, imageId: string, wish: object) =>
  api<Asked>(place, 'POST', `/v1/images/${imageId}/copy`, { body: { region: HOME, ...wish } })

/** The one copy of a request that asks for one, and the task that made it. */
export async function copy(
  place: Place,
  imageId: string,
  wish: { readonly targetProject?: string | undefined; readonly [member: string]: unknown },
): Promise<{ readonly image: ShownImageWhole; readonly task: ShownTask }> {
  const asked = await beginCopy(place, imageId, wish)
  const [one, ...more] = asked.copies
  assert(one !== undefined && more.length === 0)
  assert.equal(one.taskId, asked.taskId)
  const task = await done(place, one.taskId)
  const image = await imageOf(place, one.region, one.imageId, wish.targetProject)
  assert.equal(image.state, 'available')
  return { image, task }
}

export const change = (place: Place, taskId: string, wish: object) =>
  api(place, 'PATCH', `/v1/tasks/${taskId}`, { body: wish })

export const removeImage = (place: Place, region: string, id: string, project?: string) =>
  api(place, 'DELETE', `/v1/images/${id}`, { query: { region, project } })

/** SHA-256 of what `calotype image export` writes as a raw disk. */
export async function exportedSha256(
  place: FlowPlace,
  region: string,
  imageId: string,
  project?: string,
): Promise<string> {
  const path = join(place.folder, `${imageId}.raw`)
  const where = ['--region', region, ...(project === undefined ? [] : ['--project', project])]
  await calotypeJson(place, 'image', 'export', imageId, ...where, '--format', 'raw', '--output', path)
  try {
    const hash = createHash('sha256')
    for await (const bytes of createReadStream(path)) hash.update(bytes as Buffer)
    return hash.digest('hex')
  } finally {
    await rm(path)
  }
}

/** A collection of these regions that keeps nothing for later. */
export async function collect(place: Place, regions: readonly string[]): Promise<void> {
  const body = { regions, graceHours: 0 }
  const { taskIds } = await api<{ taskIds: string[] }>(place, 'POST', '/v1/store/collect', { body })
  assert.equal(taskIds.length, regions.length)
  for (const taskId of taskIds) await done(place, taskId)
}

/** What a region in a folder holds, but for the keys of its projects, which stay. */
export async function contentOf(place: Place, region: string): Promise<readonly string[]> {
  const folder = join(place.data, 'regions', region, 'objects')
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => !entry.isDirectory())
    .map(({ parentPath, name }) => relative(folder, join(parentPath, name)))
    .filter((name) => !name.startsWith('keys/'))
    .sort()
}

/** Looks until `look` answers something. */
export async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const untilMs = performance.now() + WAIT_MS
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    assert(performance.now() < untilMs, `${what}: not within ${WAIT_MS / 1000} s`)
    await delay(20)
  }
}

/** Waits until a copy moves bytes, of which it then has many more to move. */
export const untilPulling = (place: Place, taskId: string): Promise<ShownTask> =>
  until(`${taskId} pulling`, async () => {
    const task = await taskOf(place, taskId)
    assert.equal(task.endedAtMs, null, `${taskId} ended: ${task.reason}`)
    return task.state === 'running' && task.step === 'pull' ? task : undefined
  })

export async function newProject(place: Place, name: string): Promise<string> {
  const { project } = await api<{ project: string }>(place, 'POST', '/v1/projects', { body: { name } })
  return project
}
