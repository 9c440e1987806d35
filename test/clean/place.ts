import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { findImage, waitForTask } from '../../demo/steps.ts'
import type { SignedReport } from '../../src/image/cleaning.ts'
import type { ShownImage, ShownMachine, ShownTask } from '../../src/wire/native/show.ts'
import { HOME } from '../e2e/failure-steps.ts'
import { newPlace, type Place } from '../e2e/harness.ts'
import { copyDisk, imageDisk } from '../live/disks.ts'

/** A server whose machines are disk files that somebody put there, one folder of disks for each. */
export interface FilesPlace extends Place {
  /** Where the test may put files of its own. */
  readonly folder: string
  machine(name: string): Promise<ShownMachine>
}

/** `build` puts disks where it is told: the files of a folder, by their names, are the disks of a machine of that name. */
export async function newFilesPlace(
  t: TestContext,
  build: (machines: string) => Promise<void>,
): Promise<FilesPlace> {
  const folder = await mkdtemp(join(tmpdir(), 'calo-clean-'))
  const data = join(folder, 'd')
  const machines = join(data, 'machines')
  const takeAway = () => rm(folder, { recursive: true, force: true })
  await mkdir(machines, { recursive: true })
  await build(machines).catch(async (error: unknown) => {
    await takeAway()
    throw error
  })
  const environment = { CALOTYPE_HOST_DRIVER: 'files', CALOTYPE_DEFAULT_REGION: HOME }
  const place = await newPlace(t, { data, environment })
  // Behind the place's own end, which still verifies what is in the folder.
  t.after(takeAway)
  return Object.assign(place, {
    folder,
    async machine(name: string) {
      const query = { region: HOME, limit: 100 }
      type List = { readonly machines: readonly ShownMachine[] }
      const { machines } = await place.server.native.call<List>('GET', '/v1/machines', { query })
      const found = machines.find((one) => one.name === name)
      assert(found !== undefined, `there is no machine ${name}`)
      return found
    },
  })
}

/** WUYING CreateImage with AutoCleanUserdata; the task has ended, well or not. */
export async function createCleanImage(
  place: Place,
  machineId: string,
  name: string,
): Promise<{ readonly image: ShownImage; readonly task: ShownTask }> {
  const made = (await place.server.wuying('CreateImage', {
    RegionId: HOME,
    DesktopId: machineId,
    ImageName: name,
    AutoCleanUserdata: true,
  })) as { ImageId: string }
  const { taskId } = await findImage(place.server, HOME, made.ImageId)
  assert(taskId !== null, 'an image that is being made names its task')
  const task = await waitForTask(place.server, taskId)
  return { task, image: await findImage(place.server, HOME, made.ImageId) }
}

/** A disk of an image as a raw file, as any client of the server's exports gets it. */
export async function exportDisk(
  place: Place,
  { digest }: ShownImage,
  index: number,
  path: string,
): Promise<void> {
  assert(digest !== null, 'an image that is there has a digest')
  await copyDisk(await imageDisk(place, digest, index), path)
}

/** The signed report that goes with a cleaned image. */
export const reportOf = (place: Place, { id }: ShownImage): Promise<SignedReport> =>
  place.server.native.call<SignedReport>('GET', `/v1/images/${id}/report`, { query: { region: HOME } })

/** An image of a machine by our own door, cleaned as `clean` says; its task has ended well. */
export async function captureClean(
  place: Place,
  machineId: string,
  name: string,
  clean: object,
): Promise<ShownImage> {
  const body = { region: HOME, machineId, name, disks: 'all', clean }
  const made = await place.server.native.call<{ imageId: string; taskId: string }>(
    'POST',
    '/v1/images/capture',
    { body },
  )
  const task = await waitForTask(place.server, made.taskId)
  assert.equal(task.state, 'done', task.reason ?? '')
  return findImage(place.server, HOME, made.imageId)
}
