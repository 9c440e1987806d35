import { basename, dirname, join } from 'node:path'
import { type Server, stopServer } from '../demo/server.ts'
import type { SignedReport } from '../src/image/cleaning.ts'
import type { ShownImage } from '../src/wire/native/show.ts'
import { largeUsersDisk, usersDisk } from './tools/cleaned-disks.ts'
import type { BenchDisk } from './tools/data.ts'
import { debianDisk } from './tools/debian-disk.ts'
import { importDisk, REGION, startLiveServer, taskDone } from './tools/live-machine.ts'
import { type Contender, compare, median, RUN_COUNT, withScratch } from './tools/measure.ts'
import type { Bench, Row } from './tools/report.ts'

// A new image of an image without users' private data, as a client sees it: from the request to the end of its task. The
// same content in a volume of 4 and of 64 GiB shows what scrubbing costs. Natively on a copy of the disk and without any
// isolation, the tools of ntfs-3g; they leave what docs/cleaning.md says they leave.

interface Cleaned {
  readonly seconds: number
  readonly report: SignedReport['report']
  readonly image: ShownImage
}

async function clean(server: Server, imageId: string, name: string): Promise<Cleaned> {
  const made = await server.native.call<{ imageId: string; taskId: string }>(
    'POST',
    `/v1/images/${imageId}/clean`,
    { body: { region: REGION, name } },
  )
  const { seconds } = await taskDone(server, made.taskId)
  const query = { region: REGION }
  const image = await server.native.call<ShownImage>('GET', `/v1/images/${made.imageId}`, { query })
  const { report } = await server.native.call<SignedReport>('GET', `/v1/images/${made.imageId}/report`, {
    query,
  })
  await server.native.call('DELETE', `/v1/images/${made.imageId}`, { query })
  return { seconds, report, image }
}

async function measure(
  server: Server,
  disk: BenchDisk,
  path: string,
  say: (line: string) => void,
): Promise<Row> {
  const imageId = await importDisk(server, basename(path), 'custom')
  const query = { region: REGION }
  const source = await server.native.call<ShownImage>('GET', `/v1/images/${imageId}`, { query })
  const runs: Cleaned[] = []
  for (let i = 0; i <= RUN_COUNT; i++) {
    const one = await clean(server, imageId, `cleaned-${i}`)
    say(`${disk.name}: ${one.seconds.toFixed(2)} s, ${JSON.stringify(one.report.phases)}`)
    // The first one also makes the appliance.
    if (i > 0) runs.push(one)
  }
  const phases = Object.fromEntries(
    Object.keys(runs[0]?.report.phases ?? {}).map((name) => [
      `${name.replaceAll(' ', '-')}Ms`,
      median(runs.map(({ report }) => report.phases[name] ?? 0)),
    ]),
  )
  const seconds = median(runs.map((one) => one.seconds))
  const startMs = phases['appliance-startMs']
  const [last] = runs
  return {
    name: `calotype, ${disk.name}`,
    seconds,
    runsSeconds: runs.map((one) => one.seconds),
    ...phases,
    ...(startMs === undefined ? {} : { applianceShare: Number((startMs / 1000 / seconds).toFixed(2)) }),
    removedFiles: last?.report.removedFileCount,
    savedBytes: source.dataBytes - (last?.image.dataBytes ?? 0),
  }
}

/** The words of the issue, run on a copy of the disk as whoever has it would. */
function recipe(disk: string): Contender {
  const kept =
    '! -name Administrator ! -name Public ! -name Default ! -name "Default User" ! -name "All Users"'
  const script = [
    'mkdir -p m; ntfs-3g disk.raw m',
    `find m/Users -mindepth 1 -maxdepth 1 -type d ${kept} -exec rm -rf {} +`,
    'rm -rf m/pagefile.sys m/swapfile.sys m/hiberfil.sys "m/\\$Recycle.Bin" "m/System Volume Information"/*',
    'umount m; while pgrep -f "ntfs-3g disk.raw m$" >/dev/null; do sleep 0.05; done',
    'ntfswipe -adlmt -f disk.raw >/dev/null',
  ].join('; ')
  return {
    name: 'ntfs-3g and ntfswipe, not isolated',
    tool: 'ntfswipe',
    package: 'ntfs-3g',
    prepare: async (folder) => {
      const { runTool } = await import('../src/host/tools/run.ts')
      const copy = ['--sparse=always', disk, join(folder, 'disk.raw')]
      await runTool('cp', copy, { doing: 'Copying the disk', package: 'coreutils', timeoutMs: 120_000 })
    },
    command: (folder) => ['bash', '-euc', `cd '${folder}'; ${script}`],
  }
}

export const run: Bench = async (say) => {
  const disks = [usersDisk, largeUsersDisk, debianDisk]
  return withScratch(async (scratch) => {
    const rows: Row[] = []
    let server: Server | undefined
    try {
      for (const disk of disks) {
        const reason = disk.whyNot()
        if (reason !== undefined) {
          rows.push({ name: `calotype, ${disk.name}`, reason })
          continue
        }
        const path = await disk.ensure(say)
        server ??= await startLiveServer(scratch, dirname(path))
        rows.push(await measure(server, disk, path, say))
      }
    } finally {
      if (server !== undefined) await stopServer(server)
    }
    if (usersDisk.whyNot() === undefined)
      rows.push(...(await compare([recipe(await usersDisk.ensure(say))], say)))
    const scrubMs = (name: string) => Number(rows.find((row) => row.name === `calotype, ${name}`)?.scrubMs)
    const ratio = scrubMs(largeUsersDisk.name) / scrubMs(usersDisk.name)
    return {
      rows,
      races: [{ ours: `calotype, ${usersDisk.name}`, peers: ['ntfs-3g and ntfswipe, not isolated'] }],
      marks: [
        {
          what: 'scrubbing 64 GiB by scrubbing 4 GiB with the same content',
          goal: '< 4',
          got: ratio,
          met: ratio < 4,
        },
      ],
    }
  })
}
