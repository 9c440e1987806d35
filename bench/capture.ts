import { ensureDemoDisk, ensureLargeDisk, ensureMixedDisk } from './tools/data.ts'
import { compare } from './tools/measure.ts'
import { borgCapture, calotypeCapture, qemuImgCapture, resticCapture, zstdLimit } from './tools/peers.ts'
import type { Bench, Mark, Row } from './tools/report.ts'

// The first capture of a disk into an empty store, beside other ways to keep it. Two disks: the demo's base image,
// 4 GiB with about 208 MiB of data, and 2 GiB that are mostly full. A third has the demo disk at the start of 64 GiB.

/** How much longer the same data may take on a disk 16 times as large. */
const SIZE_COST_MAX = 1.3

const figure = (rows: readonly Row[], name: string, key: 'seconds' | 'storedBytes') =>
  rows.find((row) => row.name === name)?.[key]

/** Not slower and not larger than qemu-img on one disk; without it there is nothing to say. */
function marksOn(disk: string, rows: readonly Row[], ours: string, peer: string): Mark[] {
  const ownSeconds = figure(rows, ours, 'seconds')
  const peerSeconds = figure(rows, peer, 'seconds')
  const ownBytes = figure(rows, ours, 'storedBytes')
  const peerBytes = figure(rows, peer, 'storedBytes')
  if (!ownSeconds || !peerSeconds || !ownBytes || !peerBytes) return []
  const speed = peerSeconds / ownSeconds
  const size = ownBytes / peerBytes
  return [
    { what: `${disk}: times as fast as qemu-img`, goal: '>= 1', got: speed, met: speed >= 1 },
    { what: `${disk}: stored bytes by qemu-img's`, goal: '<= 1', got: size, met: size <= 1 },
  ]
}

export const run: Bench = async (say) => {
  const demo = await ensureDemoDisk(say)
  const large = await ensureLargeDisk(demo)
  const mixed = await ensureMixedDisk()
  const rows: Row[] = []
  rows.push(
    ...(await compare(
      [
        calotypeCapture('calotype', demo),
        qemuImgCapture('qemu-img', demo),
        calotypeCapture("calotype, as a machine's disk", demo, 'nbd'),
        calotypeCapture('calotype, in 64 GiB', large),
        resticCapture('restic', demo),
        borgCapture('borg', demo),
        zstdLimit('zstd', demo),
      ],
      say,
    )),
  )
  rows.push(
    ...(await compare(
      [
        calotypeCapture('calotype, mixed disk', mixed),
        qemuImgCapture('qemu-img, mixed disk', mixed),
        resticCapture('restic, mixed disk', mixed),
        borgCapture('borg, mixed disk', mixed),
        zstdLimit('zstd, mixed disk', mixed),
      ],
      say,
    )),
  )
  const small = figure(rows, 'calotype', 'seconds') ?? Number.NaN
  const cost = (figure(rows, 'calotype, in 64 GiB', 'seconds') ?? Number.NaN) / small
  return {
    rows,
    races: [
      { ours: 'calotype', peers: ['qemu-img', 'restic', 'borg', 'zstd'] },
      {
        ours: 'calotype, mixed disk',
        peers: ['qemu-img', 'restic', 'borg', 'zstd'].map((peer) => `${peer}, mixed disk`),
      },
    ],
    marks: [
      ...marksOn('demo disk', rows, 'calotype', 'qemu-img'),
      ...marksOn('mixed disk', rows, 'calotype, mixed disk', 'qemu-img, mixed disk'),
      {
        what: 'the demo disk in 64 GiB: time by that of 4 GiB',
        goal: `<= ${SIZE_COST_MAX}`,
        got: cost,
        met: cost <= SIZE_COST_MAX,
      },
    ],
  }
}
