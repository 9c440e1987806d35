import { spawnSync } from 'node:child_process'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { ourCommand, ourEnvironment } from './calotype.ts'
import { newPeerFile } from './copy-peer.ts'
import { serveStore, tellUrl } from './copy-servers.ts'
import type { OurSource } from './copy-sources.ts'
import { runCommand, sizeOfTree } from './measure.ts'
import { PLAIN_LINE, startRelay } from './netem-relay.ts'
import { SOURCE } from './places.ts'
import type { Findings, Mark, Row } from './report.ts'

// One image to many regions of one machine, as many at once as a server's settings allow: what is read of the source, and
// whether the memory grows with the targets.

/** Fewer first: flat memory is the same for both. */
const COUNTS = [10, 100] as const
/** As `copies.atOnce`. */
const AT_ONCE = 4
const READ_SHARE_MAX = 1.1
const MEMORY_SHARE_MAX = 1.25

type Say = (line: string) => void

export async function hundredPart(scratch: string, ours: OurSource, say: Say): Promise<Findings> {
  const packBytes = await sizeOfTree(packsOf(ours))
  const rows: Row[] = []
  const marks: Mark[] = []
  const run = async (name: string, from: string, readNow?: () => Readonly<Record<string, number>>) => {
    const peaks: number[] = []
    for (const count of COUNTS) {
      const before = readNow?.() ?? {}
      const row = await copyToMany(scratch, ours, { name, from, count })
      const after = readNow?.() ?? {}
      const read = Object.entries(after).map(([key, bytes]) => [key, bytes - (before[key] ?? 0)])
      rows.push({ ...row, packBytes, ...Object.fromEntries(read) })
      say(
        `${row.name}: ${row.seconds?.toFixed(1)} s, ${rows.at(-1)?.sourceReadBytes} bytes read of the source`,
      )
      peaks.push(row.peakRssBytes ?? Number.NaN)
    }
    const [few = Number.NaN, many = Number.NaN] = peaks
    marks.push(...marksOf(name, (rows.at(-1)?.sourceReadBytes as number) / packBytes, many / few))
  }

  const peerPath = join(scratch, 'many.json')
  newPeerFile(peerPath)
  const server = await serveStore((command) => command, ours.folder, peerPath)
  const relay = await startRelay(server.port, PLAIN_LINE)
  try {
    tellUrl(peerPath, relay.port)
    const readNow = () => ({ sourceReadBytes: server.readBytes(), linkBytes: relay.movedBytes() })
    await run('calotype over HTTPS', peerPath, readNow)
  } finally {
    await relay.close()
    await server.stop()
  }
  await run('calotype from a folder', ours.folder)
  return { rows, races: [], marks }
}

const packsOf = ({ folder }: OurSource) => join(folder, SOURCE, 'objects', 'packs')

/** `sourceReadBytes`: what the process had the disk read, the source's packs not being in memory. */
async function copyToMany(
  scratch: string,
  ours: OurSource,
  { name, from, count }: { readonly name: string; readonly from: string; readonly count: number },
): Promise<Row> {
  const folder = join(scratch, 'many')
  await mkdir(folder)
  await dropFromMemory(packsOf(ours))
  const command = ourCommand(
    'ours-copy-many.ts',
    from,
    folder,
    ours.digests[0] ?? '',
    `${count}`,
    `${AT_ONCE}`,
  )
  const result = join(folder, 'none')
  const { said, peakRssBytes, cpuSeconds } = await runCommand(command, {
    environment: ourEnvironment(),
    result,
  })
  await rm(folder, { recursive: true, force: true })
  const done = JSON.parse(said) as { movedBytes: number; readBytes: number; jobSeconds: number }
  return {
    ...{ name: `${name}, ${count} targets`, seconds: done.jobSeconds, peakRssBytes },
    ...(cpuSeconds === undefined ? {} : { cpuSeconds: Number(cpuSeconds.toFixed(2)) }),
    ...{ movedBytes: done.movedBytes, sourceReadBytes: done.readBytes },
  }
}

function marksOf(name: string, readShare: number, memoryShare: number): Mark[] {
  const count = COUNTS.at(-1)
  return [
    {
      what: `${name}, ${count} targets: bytes read of the source by those of its packs`,
      ...{ goal: `<= ${READ_SHARE_MAX}`, got: readShare, met: readShare <= READ_SHARE_MAX },
    },
    {
      what: `${name}: peak memory with ${count} targets by that with ${COUNTS[0]}`,
      ...{ goal: `<= ${MEMORY_SHARE_MAX}`, got: memoryShare, met: memoryShare <= MEMORY_SHARE_MAX },
    },
  ]
}

/** The kernel reads them from the disk again; without GNU dd nothing is dropped, and less is counted. */
async function dropFromMemory(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    spawnSync('dd', [`if=${join(entry.parentPath, entry.name)}`, 'iflag=nocache', 'count=0', 'status=none'])
  }
}
