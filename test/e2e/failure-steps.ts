import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { GuestConsole } from '../../demo/guest.ts'
import type { Server } from '../../demo/server.ts'
import { findImage, waitForTask } from '../../demo/steps.ts'
import { isErrno } from '../../src/host/tools/durable.ts'
import { findId } from '../../src/image/ids.ts'
import type { ShownImage, ShownTask } from '../../src/wire/native/show.ts'
import type { Place } from './harness.ts'

export const HOME = 'cn-hangzhou'
export const AWAY = 'cn-bj2'
const LOOK_MS = 20
const WAIT_MS = 120_000

/** Looks until `look` answers something. Throws after two minutes. */
export async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const untilMs = performance.now() + WAIT_MS
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    assert(performance.now() < untilMs, `${what}: not within ${WAIT_MS / 1000} s`)
    await delay(LOOK_MS)
  }
}

/** The serial console of a machine through the server that runs now; the one before may have been killed. */
export const consoleOf = (place: Place, machineId: string, project?: string) =>
  new GuestConsole(place.server, { region: HOME, ...(project === undefined ? {} : { project }) }, machineId)

/** Fills a file of the guest with bytes that no store has seen, so that a capture can be met in its middle. */
export async function fillGuest(console: GuestConsole, mebibytes: number, path = '/home/demo/big') {
  await console.run(`dd if=/dev/urandom of=${path} bs=1M count=${mebibytes} 2>/dev/null; sync`)
}

/** WUYING CreateImage; the image as it is at once, with the task that makes it. */
export async function beginCapture(server: Server, machineId: string, name: string) {
  const made = (await server.wuying('CreateImage', {
    RegionId: HOME,
    DesktopId: machineId,
    ImageName: name,
  })) as { ImageId: string }
  const { id, taskId } = await findImage(server, HOME, made.ImageId)
  assert(taskId !== null, 'an image that is being made names its task')
  return { imageId: id, taskId }
}

export const getTask = (server: Server, id: string) => server.native.call<ShownTask>('GET', `/v1/tasks/${id}`)

/** Waits until the task has made so many bytes durable, or any, and has more to do. */
export async function untilInTheMiddle(server: Server, taskId: string, doneBytes = 1): Promise<ShownTask> {
  const task = await until(`the middle of ${taskId}`, async () => {
    const now = await getTask(server, taskId)
    return now.doneBytes >= doneBytes || now.endedAtMs !== null ? now : undefined
  })
  assert.equal(task.endedAtMs, null, `${taskId} was met in its middle, not at its end: ${task.reason}`)
  return task
}

export async function untilMachine(server: Server, machineId: string, state: string): Promise<void> {
  await until(`machine ${machineId} ${state}`, async () => {
    const answer = (await server.wuying('DescribeDesktops', {
      RegionId: HOME,
      DesktopId: [machineId],
    })) as { Desktops: { DesktopStatus: string }[] }
    return answer.Desktops[0]?.DesktopStatus === state || undefined
  })
}

export async function untilImageIs(server: Server, imageId: string, state: ShownImage['state']) {
  return until(`image ${imageId} ${state}`, async () => {
    const image = await findImage(server, HOME, imageId)
    return image.state === state ? image : undefined
  })
}

/** Names of all files below a folder, those that are half written included; none where there is no folder. */
async function filesBelow(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true })
    return entries
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
}

/** A path of the data directory as the server sees it, which may have mounted something there. */
export const inside = (place: Place, path: string) =>
  `/proc/${place.server.process?.pid}/root${join(place.data, path)}`

export const objectsOf = async (place: Place, region: string) => {
  const folder = inside(place, `regions/${region}/objects`)
  return (await filesBelow(folder)).map((path) => relative(folder, path))
}

const machineFolder = (place: Place, machineId: string) =>
  join(place.data, 'machines', String(findId('machine', machineId)))

/** What a capture puts beside a machine and into the run folder, and has to take away again. */
export async function leftOfCaptures(place: Place): Promise<string[]> {
  const files = await Promise.all(['machines', 'run'].map((folder) => filesBelow(inside(place, folder))))
  return files.flat().filter((path) => /\/exports\/|\/scratch-|\.n\d*(\.\w+)?$/.test(path))
}

export async function assertNothingLeft(
  place: Place,
  before: readonly string[],
  region = HOME,
): Promise<void> {
  assert.deepEqual(await objectsOf(place, region), before, 'the store holds what it held before')
  assert.deepEqual(await leftOfCaptures(place), [], 'nothing of a capture is left at a machine')
}

/** The console as QEMU keeps it in a file, which also works while no server runs. */
export const consoleLog = (place: Place, machineId: string) =>
  readFile(join(machineFolder(place, machineId), 'console.log'), 'latin1')

export const qemuPid = async (place: Place, machineId: string) =>
  Number(await readFile(join(machineFolder(place, machineId), 'qemu.pid'), 'utf8'))

/** Types a command without waiting for its end: the server may be killed before the guest has done it. */
export async function typeInto(server: Server, machineId: string, command: string): Promise<void> {
  const body = { region: HOME, bytes: Buffer.from(`${command}\n`).toString('base64') }
  const id = machineId.replace(/^ecd-/, 'vm-')
  await server.native.call('POST', `/v1/machines/${id}/console`, { body })
}

export async function untilEnded(
  server: Server,
  taskId: string,
  state?: ShownTask['state'],
): Promise<ShownTask> {
  const task = await waitForTask(server, taskId)
  if (state !== undefined) assert.equal(task.state, state, `${task.reason}`)
  return task
}

export async function untilGone(server: Server, machineId: string): Promise<void> {
  await until(`machine ${machineId} gone`, async () => {
    const answer = (await server.wuying('DescribeDesktops', {
      RegionId: HOME,
      DesktopId: [machineId],
    })) as { TotalCount: number }
    return answer.TotalCount === 0 || undefined
  })
}

const RANDOM_MEBIBYTES = { random: 512, small: 1 }

/** An import folder of the test's own: disks full of bytes that no store has seen. */
export async function newRandomFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'calo-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  for (const [name, mebibytes] of Object.entries(RANDOM_MEBIBYTES)) {
    const file = await open(join(folder, `${name}.raw`), 'w')
    for (let i = 0; i < mebibytes; i++) await file.write(randomBytes(1024 ** 2))
    await file.close()
  }
  return folder
}

export async function importRandom(place: Place, name: keyof typeof RANDOM_MEBIBYTES): Promise<ShownImage> {
  const body = { region: HOME, fileName: `${name}.raw`, name }
  const made = await place.server.native.call<{ imageId: string; taskId: string }>(
    'POST',
    '/v1/images/import',
    {
      body,
    },
  )
  await untilEnded(place.server, made.taskId, 'done')
  return findImage(place.server, HOME, made.imageId)
}
