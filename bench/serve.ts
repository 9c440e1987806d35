import { mkdtemp, open, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runTool } from '../src/host/tools/run.ts'
import { ensureDisk } from './tools/data.ts'
import { digestOf, ensureKeptDisk, keep } from './tools/kept-disk.ts'
import { isInstalled } from './tools/machine.ts'
import { type Contender, compare, withScratch } from './tools/measure.ts'
import { calotypeCapture, qemuImgCapture } from './tools/peers.ts'
import { SOURCE } from './tools/places.ts'
import type { Bench, Mark, Row } from './tools/report.ts'
import { type Server, serveOurs, serveQemu } from './tools/servers.ts'

// An image read over NBD by the same clients from us and from qemu-nbd. Warm: everything was read once before, we have
// it decoded in memory, and the peer's raw file is in the page cache. Cold, for information: we have just started, and
// the peer has the image as a zstd qcow2; the stored bytes are in the page cache of both.

const CHUNK_BYTES = 256 * 1024
const DISK_BYTES = 1024 ** 3
/** How much longer than qemu-nbd from a raw file a warm read may take. */
const TIME_RATIO_MAX = 1.25
/** An odd number of blocks near the golden section of the disk: comes to every block, and never near the last one. */
const STRIDE_BYTES = 4096 * 161_803

interface Pattern {
  readonly name: string
  readonly command: (uri: string) => readonly string[]
}

const bench =
  (...words: readonly string[]) =>
  (uri: string) => ['qemu-img', 'bench', '-f', 'raw', ...words, uri]
const nbdcopy = (uri: string) => ['nbdcopy', uri, 'null:']
const strewn = (count: number, depth: number) =>
  bench('-c', `${count}`, '-d', `${depth}`, '-s', '4096', '-S', `${STRIDE_BYTES}`)

const WARM: readonly Pattern[] = [
  { name: 'random 4 KiB', command: strewn(20_000, 1) },
  { name: 'random 4 KiB, 16 at once', command: strewn(60_000, 16) },
  { name: 'in order 256 KiB', command: bench('-c', '8000', '-d', '1', '-s', '262144') },
  { name: 'in order 1 MiB, 4 at once', command: bench('-c', '2000', '-d', '4', '-s', '1048576') },
  { name: 'whole, by nbdcopy', command: nbdcopy },
]
const COLD: readonly Pattern[] = [
  { name: 'cold random 4 KiB', command: strewn(1000, 1) },
  { name: 'cold in order 256 KiB', command: bench('-c', '4000', '-d', '1', '-s', '262144') },
  { name: 'cold whole, by nbdcopy', command: nbdcopy },
]

/**
 * 1 GiB in which every chunk holds data, so that no read is of a hole: the chunks of the disk that are not zero, from
 * its start, over again where they are fewer.
 */
async function ensureDenseDisk(disk: string): Promise<string> {
  const stamp = Math.floor((await stat(disk)).mtimeMs)
  return ensureDisk(`dense-${stamp}.raw`, async (path) => {
    const source = await open(disk, 'r')
    const target = await open(path, 'w')
    try {
      const chunk = Buffer.alloc(CHUNK_BYTES)
      for (let at = 0, done = 0; done < DISK_BYTES; at += CHUNK_BYTES) {
        const { bytesRead } = await source.read(chunk, 0, CHUNK_BYTES, at)
        if (bytesRead < CHUNK_BYTES) at = -CHUNK_BYTES
        else if (chunk.some((byte) => byte !== 0)) {
          await target.write(chunk, 0, CHUNK_BYTES, done)
          done += CHUNK_BYTES
        }
      }
    } finally {
      await source.close()
      await target.close()
    }
  })
}

/** `pattern` on a server: one that runs already, or one that is started for each run alone. */
function reads(
  { name: pattern, command }: Pattern,
  who: string,
  server: Server | (() => Promise<Server>),
  running: Set<Server>,
): Contender {
  let current: Server | undefined
  let beginCpuSeconds = 0
  return {
    name: `${pattern}: ${who}`,
    tool: command('')[0] ?? '',
    package: pattern.includes('nbdcopy') ? 'libnbd-bin' : 'qemu-utils',
    async prepare() {
      current = typeof server === 'function' ? await server() : server
      running.add(current)
      if (typeof server === 'function') {
        // The export is open and its first page read: what is cold are the chunks.
        await runTool('qemu-img', ['info', '-f', 'raw', current.uri], {
          doing: 'Looking at the export',
          package: 'qemu-utils',
          timeoutMs: 60_000,
        })
      }
      beginCpuSeconds = current.cpuSeconds()
    },
    command: () => command(current?.uri ?? ''),
    async look() {
      if (current === undefined) throw new Error('prepare comes first')
      const serverCpuSeconds = Number((current.cpuSeconds() - beginCpuSeconds).toFixed(2))
      const peakRssBytes = current.peakRssBytes()
      if (typeof server === 'function') {
        await current.stop()
        running.delete(current)
      }
      return { serverCpuSeconds, peakRssBytes }
    },
  }
}

function markOf(rows: readonly Row[], pattern: string): Mark[] {
  const own = rows.find(({ name }) => name === `${pattern}: calotype`)?.seconds
  const theirs = rows.find(({ name }) => name === `${pattern}: qemu-nbd`)?.seconds
  if (own === undefined || theirs === undefined) return []
  const got = own / theirs
  const goal = `<= ${TIME_RATIO_MAX}`
  return [
    { what: `${pattern}: time by that of qemu-nbd on a raw file`, goal, got, met: got <= TIME_RATIO_MAX },
  ]
}

export const run: Bench = async (say) => {
  if (!isInstalled('qemu-nbd')) throw new Error('qemu-nbd is not installed (package qemu-utils)')
  const disk = await ensureDenseDisk(await ensureKeptDisk(say))
  // The path of a socket may be short only.
  const sockets = await mkdtemp(join(tmpdir(), 'calo-serve-'))
  const running = new Set<Server>()
  try {
    return await withScratch(async (scratch) => {
      const image = await keep(scratch, calotypeCapture('calotype', disk), say)
      const qcow2 = await keep(scratch, qemuImgCapture('qemu-img', disk), say)
      if (image === undefined || qcow2 === undefined) throw new Error('qemu-img is not installed')
      const startOurs = () => serveOurs(image.folder, SOURCE, digestOf(image))
      const startTheirs = () =>
        serveQemu('qcow2', join(qcow2.folder, 'disk.qcow2'), join(sockets, `cold-${running.size}`))
      const ours = await startOurs()
      running.add(ours)
      const theirs = await serveQemu('raw', disk, join(sockets, 'warm'))
      running.add(theirs)
      for (const { uri } of [ours, theirs]) {
        await runTool('nbdcopy', [uri, 'null:'], {
          doing: 'Reading all of the disk once',
          package: 'libnbd-bin',
          timeoutMs: 300_000,
        })
      }
      const contenders = [
        ...WARM.flatMap((pattern) => [
          reads(pattern, 'calotype', ours, running),
          reads(pattern, 'qemu-nbd', theirs, running),
        ]),
        ...COLD.flatMap((pattern) => [
          reads(pattern, 'calotype', startOurs, running),
          reads(pattern, 'qemu-nbd, qcow2', startTheirs, running),
        ]),
      ]
      const rows = await compare(contenders, say)
      return {
        rows,
        races: [
          ...WARM.map(({ name }) => ({ ours: `${name}: calotype`, peers: [`${name}: qemu-nbd`] })),
          ...COLD.map(({ name }) => ({ ours: `${name}: calotype`, peers: [`${name}: qemu-nbd, qcow2`] })),
        ],
        marks: WARM.flatMap(({ name }) => markOf(rows, name)),
      }
    })
  } finally {
    for (const server of running) await server.stop()
    await rm(sockets, { recursive: true, force: true })
  }
}
