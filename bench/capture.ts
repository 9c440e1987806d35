import { type BenchDisk, ensureDemoDisk, ensureLargeDisk } from './tools/data.ts'
import { debianDisk } from './tools/debian-disk.ts'
import { fasterThan, memoryWithin, sizeWithin, timeWithin } from './tools/marks.ts'
import { compare } from './tools/measure.ts'
import { noiseDisk, ntfsDisk, strewnDisk } from './tools/odd-disks.ts'
import { borgCapture, calotypeCapture, qemuImgCapture, resticCapture, zstdLimit } from './tools/peers.ts'
import type { Bench, Mark, Row } from './tools/report.ts'

// The first capture of a disk into an empty store, beside other ways to keep it. The marks are those of a Debian's disk.
// Other disks stand beside it against qemu-img alone: the demo's base image, the same at the start of 64 GiB, and three
// that are unlike a Debian's.

/** How much longer the same data may take on a disk 16 times as large. */
const SIZE_COST_MAX = 1.3
const PEAK_MIB_MAX = 400

type Say = (line: string) => void
interface Part {
  readonly rows: readonly Row[]
  readonly marks: readonly Mark[]
}

async function onDebian(say: Say): Promise<Part> {
  const why = debianDisk.whyNot()
  if (why !== undefined) return { rows: [{ name: 'calotype', reason: why }], marks: [] }
  const disk = await debianDisk.ensure(say)
  const rows = await compare(
    [
      calotypeCapture('calotype', disk),
      qemuImgCapture('qemu-img', disk),
      calotypeCapture("calotype, as a machine's disk", disk, { way: 'nbd' }),
      resticCapture('restic', disk),
      borgCapture('borg', disk),
      zstdLimit('zstd', disk),
    ],
    say,
  )
  const race = { what: debianDisk.name, rows, ours: 'calotype' }
  const marks = [
    ...fasterThan(race, 'qemu-img', 1.5),
    ...fasterThan(race, 'restic', 4),
    ...fasterThan(race, 'borg', 4),
    ...timeWithin(race, 'zstd', 1.35),
    ...sizeWithin(race, 'qemu-img', 1.05),
  ]
  return { rows, marks }
}

async function onDemo(say: Say): Promise<Part> {
  const demo = await ensureDemoDisk(say)
  const large = await ensureLargeDisk(demo)
  const ours = 'calotype, demo disk'
  const peer = 'qemu-img, demo disk'
  const inLarge = 'calotype, demo disk in 64 GiB'
  const rows = await compare(
    [calotypeCapture(ours, demo), qemuImgCapture(peer, demo), calotypeCapture(inLarge, large)],
    say,
  )
  const race = { what: 'demo disk', rows, ours }
  const marks = [
    ...fasterThan(race, peer, 1),
    ...sizeWithin(race, peer, 1),
    ...timeWithin({ ...race, what: 'in 64 GiB', ours: inLarge }, ours, SIZE_COST_MAX),
  ]
  return { rows, marks }
}

async function onOther(disk: BenchDisk, say: Say): Promise<Part> {
  const ours = `calotype, ${disk.name}`
  const why = disk.whyNot()
  if (why !== undefined) return { rows: [{ name: ours, reason: why }], marks: [] }
  const path = await disk.ensure(say)
  const rows = await compare(
    [calotypeCapture(ours, path), qemuImgCapture(`qemu-img, ${disk.name}`, path)],
    say,
  )
  return { rows, marks: [] }
}

export const run: Bench = async (say) => {
  const others = [strewnDisk, noiseDisk, ntfsDisk]
  const parts = [await onDebian(say), await onDemo(say)]
  for (const disk of others) parts.push(await onOther(disk, say))
  const rows = parts.flatMap((part) => part.rows)
  const ourNames = rows.map(({ name }) => name).filter((name) => name.startsWith('calotype'))
  return {
    rows,
    races: [
      { ours: 'calotype', peers: ['qemu-img', 'restic', 'borg', 'zstd'] },
      ...['demo disk', ...others.map(({ name }) => name)].map((name) => ({
        ours: `calotype, ${name}`,
        peers: [`qemu-img, ${name}`],
      })),
    ],
    marks: [...parts.flatMap((part) => part.marks), ...memoryWithin(rows, ourNames, PEAK_MIB_MAX)],
  }
}
