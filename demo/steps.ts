import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { ServerRefusal } from '../src/cli/failure.ts'
import type { ShownImage, ShownTask } from '../src/wire/native/show.ts'
import { GuestConsole } from './guest.ts'
import { ROOT, type Server } from './server.ts'

/** Where the base image is kept between runs; also the import folder of the demo's server. */
export const BASE_FOLDER = join(ROOT, '.cache', 'base-image')
export const DESKTOP_TYPE = 'ecd.demo.1c1g'
const POLL_MS = 200

export async function buildBaseImage(onLine: (line: string) => void): Promise<void> {
  const running = promisify(execFile)(join(ROOT, 'demo/base-image/build.sh'), [BASE_FOLDER])
  let rest = ''
  running.child.stderr?.on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) onLine(line)
  })
  await running
}

async function poll<T>(what: string, waitMs: number, look: () => Promise<T | undefined>): Promise<T> {
  const untilMs = performance.now() + waitMs
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    if (performance.now() > untilMs) throw new Error(`${what}: not within ${waitMs / 1000} s`)
    await delay(POLL_MS)
  }
}

export async function waitForTask(server: Server, id: string): Promise<ShownTask> {
  for (;;) {
    const task = await server.native.call<ShownTask>('GET', `/v1/tasks/${id}`, { query: { waitMs: 5000 } })
    if (task.endedAtMs !== null) return task
  }
}

/** Throws with what to do when the server, started by somebody else, reads another import folder than ours. */
export async function importBase(server: Server, region: string, name: string): Promise<ShownImage> {
  const body = {
    region,
    fileName: 'base.raw',
    name,
    kind: 'base',
    osType: 'Linux',
    osName: 'Calotype demo Linux',
  }
  const made = await server.native
    .call<{ imageId: string; taskId: string }>('POST', '/v1/images/import', { body })
    .catch((cause: unknown) => {
      if (server.process !== undefined || !(cause instanceof ServerRefusal) || cause.kind !== 'absent')
        throw cause
      const what = `stop it, or put ${join(BASE_FOLDER, 'base.raw')} into its import folder`
      throw new Error(`found a server at ${server.endpoint.origin}; ${what}. It said: ${cause.message}`, {
        cause,
      })
    })
  const task = await waitForTask(server, made.taskId)
  if (task.state !== 'done') throw new Error(`import: ${task.reason}`)
  return findImage(server, region, made.imageId)
}

/** One image through our own door, whichever door's spelling the id is in. */
export async function findImage(
  server: Server,
  region: string,
  id: string,
  project?: string,
): Promise<ShownImage> {
  return server.native.call<ShownImage>('GET', `/v1/images/${id}`, { query: { region, project } })
}

/** WUYING CreateDesktops, and the guest's own word that it is up. */
export async function launchDesktop(server: Server, region: string, imageId: string, name: string) {
  const made = (await server.wuying('CreateDesktops', {
    RegionId: region,
    DesktopName: name,
    DesktopAttachment: JSON.stringify({ ImageId: imageId, DesktopType: DESKTOP_TYPE }),
  })) as { DesktopId: string[] }
  const desktopId = made.DesktopId[0] ?? ''
  await poll(`desktop ${desktopId}`, 60_000, async () => {
    const answer = (await server.wuying('DescribeDesktops', {
      RegionId: region,
      DesktopId: [desktopId],
    })) as {
      Desktops: { DesktopStatus: string }[]
    }
    const status = answer.Desktops[0]?.DesktopStatus
    if (status === 'Failed') throw new Error(`desktop ${desktopId} failed`)
    return status === 'Running' || undefined
  })
  const console = new GuestConsole(server, { region }, desktopId)
  const uptimeSeconds = await console.waitUntilUp()
  return { desktopId, console, uptimeSeconds }
}

/** WUYING CreateImage, then DescribeImages until Available. Answers the progress seen on the way. */
export async function createImage(
  call: Server['wuying'],
  region: string,
  parameters: Record<string, unknown>,
): Promise<{ imageId: string; seen: number[] }> {
  const made = (await call('CreateImage', { RegionId: region, ...parameters })) as { ImageId: string }
  const seen: number[] = []
  await poll(`image ${made.ImageId}`, 120_000, async () => {
    const answer = (await call('DescribeImages', { RegionId: region, ImageId: [made.ImageId] })) as {
      Images: { Status: string; Progress: string }[]
    }
    const image = answer.Images[0]
    if (image === undefined) throw new Error(`image ${made.ImageId} is not listed`)
    if (image.Status === 'CreateFailed') throw new Error(`image ${made.ImageId} failed`)
    seen.push(Number.parseInt(image.Progress, 10))
    return image.Status === 'Available' || undefined
  })
  return { imageId: made.ImageId, seen }
}

/** Waits for a copy as UHost's own tools do: the progress, then the state. */
export async function waitForCopy(server: Server, region: string, project: string, imageId: string) {
  return poll(`copy ${imageId}`, 120_000, async () => {
    const where = { Region: region, ProjectId: project, ImageId: imageId }
    const progress = (await server.uhost('GetImageCopyProgress', where)) as { ProgressInfo: string }
    if (Number(progress.ProgressInfo) !== 100) return undefined
    const answer = (await server.uhost('DescribeImage', where)) as { ImageSet: { State: string }[] }
    if (answer.ImageSet[0]?.State === 'Unavailable') throw new Error(`copy ${imageId} failed`)
    return answer.ImageSet[0]?.State === 'Available' || undefined
  })
}

/** UHost CreateUHostInstance, and the guest's own word that it is up. */
export async function launchHost(
  server: Server,
  place: { region: string; zone: string; project: string },
  imageId: string,
  name: string,
) {
  const where = { Region: place.region, ProjectId: place.project }
  const made = (await server.uhost('CreateUHostInstance', {
    ...where,
    Zone: place.zone,
    ImageId: imageId,
    Name: name,
    CPU: 1,
    Memory: 1024,
    LoginMode: 'ImagePasswd',
    Disks: [{ IsBoot: 'True', Type: 'CLOUD_SSD', Size: 4 }],
  })) as { UHostIds: string[] }
  const hostId = made.UHostIds[0] ?? ''
  await poll(`host ${hostId}`, 60_000, async () => {
    const answer = (await server.uhost('DescribeUHostInstance', { ...where, UHostIds: [hostId] })) as {
      UHostSet: { State: string }[]
    }
    const state = answer.UHostSet[0]?.State
    if (state === 'Install Fail') throw new Error(`host ${hostId} failed`)
    return state === 'Running' || undefined
  })
  const console = new GuestConsole(server, { region: place.region, project: place.project }, hostId)
  const uptimeSeconds = await console.waitUntilUp()
  return { hostId, console, uptimeSeconds }
}

/** Checks all regions; throws if any invariant does not hold. */
export async function verifyAll(server: Server, deep = true): Promise<ShownTask[]> {
  const { taskIds } = await server.native.call<{ taskIds: string[] }>('POST', '/v1/verify', {
    body: { deep },
  })
  const tasks = await Promise.all(taskIds.map((id) => waitForTask(server, id)))
  for (const task of tasks) {
    if (task.state !== 'done') throw new Error(`verify of ${task.region}: ${task.reason}`)
    const { problems } = task.output as { problems: string[] }
    if (problems.length > 0) throw new Error(`verify of ${task.region}: ${problems.join('; ')}`)
  }
  return tasks
}
