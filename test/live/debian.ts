import { execFile } from 'node:child_process'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { ROOT } from '../../demo/server.ts'
import { findImage, waitForTask } from '../../demo/steps.ts'
import type { ShownImage, ShownMachine } from '../../src/wire/native/show.ts'
import { consoleOf, HOME, until } from '../e2e/failure-steps.ts'
import { newPlace, type Place, type PlaceOptions } from '../e2e/harness.ts'

/** Where the Debian guest is kept between runs. */
export const GUEST_FOLDER = join(ROOT, '.cache/guest')
const MIB = 1024 ** 2
/** Where the guest's root begins on its system disk. Source: demo/base-image/disk.sh. */
export const ROOT_START_BYTES = 65 * MIB

/** A machine that runs, its disks in the order of the machine. */
export interface Guest {
  readonly id: string
  readonly diskIds: readonly string[]
  run(command: string): Promise<string>
}

/** A server that can import the Debian guest; everything else as `newPlace`. */
export async function newDebianPlace(t: TestContext, options: PlaceOptions = {}): Promise<Place> {
  await promisify(execFile)(join(ROOT, 'test/guest/build.sh'), [GUEST_FOLDER])
  return newPlace(t, { importDirectory: GUEST_FOLDER, ...options })
}

export async function importDebian(place: Place): Promise<ShownImage> {
  const body = { region: HOME, fileName: 'guest.raw', name: 'debian', kind: 'base', osName: 'Debian' }
  const { native } = place.server
  const made = await native.call<{ imageId: string; taskId: string }>('POST', '/v1/images/import', { body })
  const task = await waitForTask(place.server, made.taskId)
  if (task.state !== 'done') throw new Error(`import: ${task.reason}`)
  return findImage(place.server, HOME, made.imageId)
}

export const getMachine = (place: Place, id: string) =>
  place.server.native.call<ShownMachine>('GET', `/v1/machines/${id}`, { query: { region: HOME } })

export const untilState = (place: Place, id: string, state: ShownMachine['state']) =>
  until(`machine ${id} ${state}`, async () => {
    const machine = await getMachine(place, id)
    if (machine.state === 'failed') throw new Error(`machine ${id} failed: ${machine.reason}`)
    return machine.state === state ? machine : undefined
  })

export interface DataDisk {
  readonly sizeBytes: number
  readonly bus?: 'virtio-blk' | 'virtio-scsi'
}

/** A machine of an image whose guest has said that it is up. */
export async function launch(
  place: Place,
  imageId: string,
  name: string,
  dataDisks: readonly DataDisk[] = [],
): Promise<Guest> {
  const body = { region: HOME, imageId, name, dataDisks }
  const made = await place.server.native.call<{ machineIds: string[] }>('POST', '/v1/machines', { body })
  const id = made.machineIds[0] ?? ''
  const machine = await untilState(place, id, 'running')
  await consoleOf(place, id).waitUntilUp()
  return {
    id,
    diskIds: machine.disks.map((disk) => disk.id),
    run: (command) => consoleOf(place, id).run(command),
  }
}
