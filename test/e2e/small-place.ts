import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { KeyPair } from '../../demo/clients.ts'
import type { ShownImage, ShownMachine, ShownSnapshot, ShownTask } from '../../src/wire/native/show.ts'
import { newPlace, type Place, type PlaceOptions, REGIONS } from './harness.ts'
import { DESKTOP_TYPE, HOME } from './valid-calls.ts'
import {
  type Answer,
  assertEnvelope,
  type Flat,
  openWire,
  signedNative,
  signedUhost,
  signedV1,
  type Wire,
} from './wire.ts'

const WAIT_MS = 30_000
const SMALL_BYTES = 1024 ** 2

export interface SmallPlace extends Place {
  readonly wire: Wire
  readonly importDirectory: string
}

/** A real server whose machines are simulated, with one small disk to import: for tests of what is said, not booted. */
export async function newSmallPlace(
  t: TestContext,
  environment: Readonly<Record<string, string>> = {},
  more: Pick<PlaceOptions, 'wrapper'> = {},
): Promise<SmallPlace> {
  const importDirectory = await mkdtemp(join(tmpdir(), 'calo-imports-'))
  await writeFile(join(importDirectory, 'small.raw'), randomBytes(SMALL_BYTES))
  let begun: Place | undefined
  let wire: Wire | undefined
  let port = ''
  // Registered first, so that it runs first: a test that failed may leave a capture that would never end.
  t.after(async () => {
    if (begun?.server.process?.exitCode === null) await cancelAll(personOf(begun as SmallPlace))
  })
  t.after(() => {
    wire?.close()
    return rm(importDirectory, { recursive: true, force: true })
  })
  const place: Place = await newPlace(t, {
    ...more,
    importDirectory,
    environment: {
      CALOTYPE_HOST_DRIVER: 'simulated',
      CALOTYPE_CAPTURE_WORKERS: '1',
      CALOTYPE_LOG_LEVEL: 'trace',
      ...environment,
    },
  })
  begun = place
  return Object.defineProperties(place as SmallPlace, {
    importDirectory: { value: importDirectory },
    // A server that was started again listens elsewhere.
    wire: {
      get: () => {
        const { endpoint, key } = place.server
        if (wire === undefined || port !== endpoint.port) {
          wire?.close()
          wire = openWire(endpoint, [place.data, importDirectory, key.accessKeySecret])
          port = endpoint.port
        }
        return wire
      },
    },
  })
}

export async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const untilMs = performance.now() + WAIT_MS
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    assert(performance.now() < untilMs, `${what}: not within ${WAIT_MS / 1000} s`)
    await delay(10)
  }
}

/** One user's calls through the three doors, each answer in its door's envelope. */
export interface Person {
  wuying(action: string, parameters: Flat): Promise<Answer>
  uhost(action: string, parameters: Flat): Promise<Answer>
  native(method: string, path: string, given?: { query?: Flat; body?: unknown }): Promise<Answer>
}

export function personOf(place: SmallPlace, key: KeyPair = place.server.key): Person {
  const spoken = async (door: 'wuying' | 'uhost' | 'native', answer: Promise<Answer>) => {
    assertEnvelope(door, await answer)
    return answer
  }
  return {
    wuying: (action, parameters) => spoken('wuying', place.wire.send(signedV1(key, action, parameters))),
    uhost: (action, parameters) => spoken('uhost', place.wire.send(signedUhost(key, action, parameters))),
    native: (method, path, given) =>
      spoken('native', place.wire.send(signedNative(place.server.endpoint, key, method, path, given))),
  }
}

/** What a call that has to succeed answers. */
export async function good<T>(answer: Promise<Answer>): Promise<T> {
  const { status, json, text } = await answer
  assert.ok(status < 300 && (json.RetCode ?? 0) === 0, text)
  return json as T
}

export async function taskEnd(person: Person, id: string): Promise<ShownTask> {
  return until(`the end of ${id}`, async () => {
    const task = await good<ShownTask>(person.native('GET', `/v1/tasks/${id}`, { query: { waitMs: '1000' } }))
    return task.endedAtMs === null ? undefined : task
  })
}

export async function importSmall(person: Person, kind: 'base' | 'custom', name: string): Promise<string> {
  const body = { region: HOME, fileName: 'small.raw', name, kind }
  const made = await good<{ imageId: string; taskId: string }>(
    person.native('POST', '/v1/images/import', { body }),
  )
  const task = await taskEnd(person, made.taskId)
  assert.equal(task.state, 'done', task.reason ?? '')
  return made.imageId
}

/** Launches machines through WUYING and waits until they run. Ids in our own spelling. */
export async function launch(
  person: Person,
  imageId: string,
  count = 1,
  sizeGib?: number,
): Promise<string[]> {
  const { DesktopId } = await good<{ DesktopId: string[] }>(
    person.wuying('CreateDesktops', {
      RegionId: HOME,
      Amount: String(count),
      DesktopAttachment: JSON.stringify({
        ImageId: imageId,
        DesktopType: DESKTOP_TYPE,
        ...(sizeGib === undefined ? {} : { SystemDiskSize: sizeGib }),
      }),
    }),
  )
  const ids = DesktopId.map((id) => id.replace(/^ecd-/, 'vm-'))
  for (const id of ids) await untilState(person, id, 'running')
  return ids
}

export async function untilState(person: Person, machineId: string, state: string): Promise<void> {
  await until(`${machineId} ${state}`, async () => {
    const machine = await good<ShownMachine>(
      person.native('GET', `/v1/machines/${machineId}`, { query: { region: HOME } }),
    )
    assert.notEqual(machine.state, 'failed', machine.reason ?? '')
    return machine.state === state || undefined
  })
}

/** Cancels every task that is under way and can be. */
export async function cancelAll(root: Person): Promise<void> {
  const { projects } = await good<{ projects: { id: string }[] }>(root.native('GET', '/v1/projects'))
  for (const { id: project } of projects) {
    const query = { project, live: 'true' }
    const { tasks } = await good<{ tasks: ShownTask[] }>(root.native('GET', '/v1/tasks', { query }))
    for (const task of tasks) await root.native('DELETE', `/v1/tasks/${task.id}`)
  }
}

/** The tasks of copies in the default project that have not ended. */
export async function liveCopies(person: Person): Promise<string[]> {
  const query = { kind: 'copy-image', live: 'true' }
  const { tasks } = await good<{ tasks: ShownTask[] }>(person.native('GET', '/v1/tasks', { query }))
  return tasks.map(({ id }) => id)
}

/** Everything there is, in every region and project, without what moves by itself: nothing left behind, nothing gone. */
export async function inventory(root: Person): Promise<readonly string[]> {
  const { projects } = await good<{ projects: { id: string }[] }>(root.native('GET', '/v1/projects'))
  const seen: string[] = projects.map(({ id }) => id)
  for (const { id: project } of projects) {
    for (const region of REGIONS) {
      const query = { region, project, limit: '500' }
      const { images } = await good<{ images: ShownImage[] }>(root.native('GET', '/v1/images', { query }))
      const { machines } = await good<{ machines: ShownMachine[] }>(
        root.native('GET', '/v1/machines', { query }),
      )
      const { snapshots } = await good<{ snapshots: ShownSnapshot[] }>(
        root.native('GET', '/v1/snapshots', { query }),
      )
      const { policies } = await good<{ policies: { id: string; name: string }[] }>(
        root.native('GET', '/v1/snapshot-policies', { query }),
      )
      seen.push(...snapshots.map((snapshot) => `${snapshot.id} ${snapshot.state} ${snapshot.name}`))
      seen.push(...policies.map((policy) => `${policy.id} ${policy.name}`))
      seen.push(...images.map((image) => `${image.id} ${image.region} ${image.state} ${image.name}`))
      seen.push(...machines.map((machine) => `${machine.id} ${machine.state} ${machine.name}`))
    }
    const query = { project, limit: '500' }
    const { tasks } = await good<{ tasks: ShownTask[] }>(root.native('GET', '/v1/tasks', { query }))
    seen.push(...tasks.map((task) => `${task.id} ${task.kind} ${task.state}`))
  }
  return seen.sort()
}
