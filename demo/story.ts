import { join, relative } from 'node:path'
import { styleText } from 'node:util'
import type { ShownImage } from '../src/wire/native/show.ts'
import { findServer, ROOT, type Server, startServer, stopServer } from './server.ts'
import {
  BASE_FOLDER,
  buildBaseImage,
  createImage,
  findImage,
  importBase,
  launchDesktop,
  launchHost,
  verifyAll,
  waitForCopy,
} from './steps.ts'

// The main job before your eyes: image a running machine through one cloud's API, copy the image to other regions
// and another project through the other's, and start a machine from a copy. `--keep` leaves the server running.

// Short where it can be: it is in the lines that a person reads and types.
const DATA = process.env.CALOTYPE_DATA ?? (relative(process.cwd(), join(ROOT, 'data')) || '.')
const LISTEN = process.env.CALOTYPE_LISTEN ?? '127.0.0.1:8370'
const HOME = 'cn-hangzhou'
const AWAY = { region: 'cn-bj2', zone: 'cn-bj2-02' }
const OTHER_AWAY = 'hk'
const MIB = 1024 ** 2

const paint = (style: Parameters<typeof styleText>[0], text: string) =>
  process.stdout.isTTY && !process.env.NO_COLOR ? styleText(style, text) : text
const seconds = (ms: number) => `${(ms / 1000).toFixed(1).padStart(5)} s`
const startedMs = performance.now()
const times = new Map<string, number>()

/** Runs a step, prints its line with its time; `work` answers what the line says behind the name. */
async function step<T>(
  name: string,
  work: () => Promise<T>,
  say: (result: T) => string = () => '',
): Promise<T> {
  const beginMs = performance.now()
  const result = await work()
  const spentMs = performance.now() - beginMs
  times.set(name, spentMs)
  console.log(
    `${paint('dim', `[${seconds(spentMs)}]`)} ${paint('green', '✔')} ${name}  ${paint('dim', say(result))}`,
  )
  return result
}

/** A machine of an earlier story would keep running beside ours. */
async function removeEarlier(server: Server): Promise<void> {
  for (const region of [HOME, AWAY.region]) {
    const found = await server.native.call<{ machines: { id: string; name: string; state: string }[] }>(
      'GET',
      '/v1/machines',
      { query: { region, limit: 100 } },
    )
    for (const { id, name, state } of found.machines) {
      if (!name.startsWith('story-') || !['running', 'stopped', 'failed'].includes(state)) continue
      await server.native.call('DELETE', `/v1/machines/${id}`, { query: { region } })
    }
  }
}

async function projects(server: Server): Promise<{ own: string; other: string }> {
  type Listed = { projects: { id: string; name: string; isDefault: boolean }[] }
  const list = () => server.native.call<Listed>('GET', '/v1/projects')
  let { projects: all } = await list()
  if (!all.some((project) => project.name === 'Second team')) {
    await server.native.call('POST', '/v1/projects', { body: { name: 'Second team' } })
    all = (await list()).projects
  }
  const own = all.find((project) => project.isDefault)
  const other = all.find((project) => project.name === 'Second team')
  if (own === undefined || other === undefined)
    throw new Error('the default project and the second one are listed')
  return { own: own.id, other: other.id }
}

async function baseOf(server: Server): Promise<ShownImage> {
  const { images } = await server.native.call<{ images: ShownImage[] }>('GET', '/v1/images', {
    query: { region: HOME, name: 'calotype-demo-base', states: 'available' },
  })
  return images[0] ?? importBase(server, HOME, 'calotype-demo-base')
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  return rows
    .map((row, i) => {
      const line = row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')
      return i === 0 ? paint('bold', line) : line
    })
    .join('\n')
}

async function tell(server: Server): Promise<void> {
  await step(
    'import a base image',
    () => baseOf(server),
    (image) => `${image.id}, ${(image.dataBytes / MIB).toFixed(0)} MiB of data on 4096 MiB`,
  )
  const base = await baseOf(server)
  const { own, other } = await projects(server)
  await removeEarlier(server)
  const desktop = await step(
    `launch a machine in ${HOME} (WUYING CreateDesktops)`,
    () => launchDesktop(server, HOME, base.id, 'story-source'),
    ({ desktopId, uptimeSeconds }) => `${desktopId}, guest up after ${uptimeSeconds} s of its own time`,
  )
  const word = `written at ${new Date().toISOString()}`
  await step(
    'change a file inside the running guest',
    async () => {
      await desktop.console.run(`echo '${word}' > /home/demo/story.txt; sync`)
      return desktop.console.run('cat /home/demo/story.txt')
    },
    (said) => `/home/demo/story.txt: ${said}`,
  )
  const image = await step(
    'make an image of it (WUYING CreateImage, official client)',
    () =>
      createImage(server.wuying, HOME, { DesktopId: desktop.desktopId, ImageName: `story-${Date.now()}` }),
    ({ imageId, seen }) => `${imageId}, progress ${[...new Set(seen)].join(' ')} %`,
  )
  const made = await findImage(server, HOME, image.imageId)
  const regions = [AWAY.region, OTHER_AWAY]
  const copies = await step(
    `copy it to ${regions.join(' and ')} (UHost CopyCustomImage, batch)`,
    async () => {
      const { Infos } = (await server.uhost('CopyCustomImage', {
        Region: HOME,
        ProjectId: own,
        SourceImageId: image.imageId,
        TargetProjectId: own,
        TargetRegionList: regions,
      })) as { Infos: { TargetImageId: string; TargetRegion: string }[] }
      await Promise.all(Infos.map((info) => waitForCopy(server, info.TargetRegion, own, info.TargetImageId)))
      return Infos
    },
    (infos) => infos.map((info) => info.TargetImageId).join(', '),
  )
  const away = copies.find((copy) => copy.TargetRegion === AWAY.region)?.TargetImageId ?? ''
  const otherCopy = await step(
    `copy it to another project in ${AWAY.region}`,
    async () => {
      const { TargetImageId } = (await server.uhost('CopyCustomImage', {
        Region: AWAY.region,
        ProjectId: own,
        SourceImageId: away,
        TargetProjectId: other,
      })) as { TargetImageId: string }
      await waitForCopy(server, AWAY.region, other, TargetImageId)
      return TargetImageId
    },
    (id) => `${id} in ${other}`,
  )
  await step(
    `launch a machine from the copy in ${AWAY.region} (UHost CreateUHostInstance), read the file`,
    async () => {
      const host = await launchHost(server, { ...AWAY, project: own }, away, 'story-copy')
      const said = await host.console.run('cat /home/demo/story.txt')
      if (said !== word) throw new Error(`The copy says '${said}', the source said '${word}'.`)
      return { ...host, said }
    },
    ({ hostId, said }) => `${hostId}: ${said}`,
  )
  const reports = await step(
    'verify all regions',
    () => verifyAll(server),
    (tasks) => `${tasks.length} regions, every chunk decoded and checked`,
  )

  const rows: ShownImage[] = [made]
  for (const copy of copies) rows.push(await findImage(server, copy.TargetRegion, copy.TargetImageId))
  rows.push(await findImage(server, AWAY.region, otherCopy, other))
  const mib = (bytes: number) => (bytes / MIB).toFixed(2)
  const spent = (row: ShownImage) => seconds(row.updatedAtMs - row.createdAtMs).trim()
  console.log(
    `\n${table([
      [
        'image',
        'made by',
        'region',
        'project',
        'digest',
        'logical MiB',
        'data MiB',
        'stored MiB',
        'moved MiB',
        'time',
      ],
      ...rows.map((row) => [
        row.id,
        row.origin,
        row.region,
        row.project,
        row.digest?.slice(0, 16) ?? '',
        mib(row.logicalBytes),
        mib(row.dataBytes),
        mib(row.storedBytes),
        mib(row.movedBytes),
        spent(row),
      ]),
    ])}`,
  )
  if (new Set(rows.map((row) => row.digest)).size !== 1) throw new Error('The digests differ.')
  const regionsHeld = reports.map((task) => {
    const { storedBytes, imageCount } = task.output as { storedBytes: number; imageCount: number }
    return `${task.region} ${imageCount} images ${mib(storedBytes)} MiB`
  })
  console.log(`\nDigests are equal. Stores: ${regionsHeld.join(', ')}.`)
}

const keep = process.argv.includes('--keep')
await step('build the base image from Debian packages', () =>
  buildBaseImage((line) => console.log(paint('dim', line))),
)
const running = await findServer(DATA)
const server = await step(
  running === undefined ? 'start the server' : 'find the server that runs already',
  async () => running ?? startServer({ data: DATA, listen: LISTEN, importDirectory: BASE_FOLDER }),
  ({ endpoint, readyMs }) => `${endpoint.origin}, ready after ${(readyMs / 1000).toFixed(2)} s`,
)
console.log(`          endpoint ${server.endpoint.origin}, first access key in ${server.keySource}`)
let failed = false
try {
  await tell(server)
} catch (error) {
  failed = true
  console.error(paint('red', `✘ ${error instanceof Error ? error.message : error}`))
  console.error(`The server's log is ${join(DATA, 'server.log')}.`)
}
console.log(`\nAll in ${((performance.now() - startedMs) / 1000).toFixed(1)} s.`)
if (keep && !failed) {
  console.log(`The server keeps running at ${server.endpoint.origin}. Look around:`)
  console.log(`  bin/calotype image list --data ${DATA} --region ${HOME}`)
  console.log(`  bin/calotype machine list --data ${DATA} --region ${HOME}`)
  const child = server.process
  if (child !== undefined) console.log(`Stop it with: kill ${child.pid}`)
} else {
  await removeEarlier(server).catch(() => {})
  await stopServer(server)
}
process.exit(failed ? 1 : 0)
