import { join } from 'node:path'
import { runTool } from '../src/host/tools/run.ts'
import { ourCommand, ourEnvironment } from './tools/calotype.ts'
import { digestOf, ensureKeptDisk, type Kept, keep } from './tools/kept-disk.ts'
import { type Contender, compare, sizeOfTree, withScratch } from './tools/measure.ts'
import { borgCapture, calotypeCapture, qemuImgCapture, resticCapture } from './tools/peers.ts'
import type { Bench, Mark, Row } from './tools/report.ts'

// A disk that was captured, back in a raw file that is durable, beside those who keep it in other ways. The bytes are
// compared with the disk's each time, after the clock has stopped.

const MARKS = { 'qemu-img': 1, restic: 3, borg: 3 } as const

function markOf(rows: readonly Row[], peer: keyof typeof MARKS): Mark[] {
  const own = rows.find(({ name }) => name === 'calotype')?.seconds
  const theirs = rows.find(({ name }) => name === peer)?.seconds
  if (own === undefined || theirs === undefined) return []
  const got = theirs / own
  return [{ what: `times as fast as ${peer}`, goal: `>= ${MARKS[peer]}`, got, met: got >= MARKS[peer] }]
}

export const run: Bench = async (say) => {
  const disk = await ensureKeptDisk(say)
  const look = async (folder: string): Promise<Omit<Row, 'name'>> => {
    await runTool('cmp', [disk, join(folder, 'disk.raw')], {
      doing: 'Comparing the restored disk',
      package: 'diffutils',
      timeoutMs: 300_000,
    })
    return { restoredBytes: await sizeOfTree(folder) }
  }
  return withScratch(async (scratch) => {
    const kept = async (capture: Contender) => keep(scratch, capture, say)
    const ours = await kept(calotypeCapture('calotype', disk))
    const qcow2 = await kept(qemuImgCapture('qemu-img', disk))
    const restic = await kept(resticCapture('restic', disk))
    const borg = await kept(borgCapture('borg', disk))
    if (ours === undefined) throw new Error('we are always installed')
    /** Another tool's way back; its row says so where it is not installed. */
    const peer = (
      capture: Contender,
      from: Kept | undefined,
      command: (kept: string, target: string) => readonly string[],
    ): Contender => {
      const { name, tool, package: packageName } = capture
      const environment = capture.environment?.(from?.folder ?? scratch) ?? {}
      return {
        name,
        ...(tool === undefined ? {} : { tool }),
        ...(packageName === undefined ? {} : { package: packageName }),
        environment: () => environment,
        command: (folder) => command(from?.folder ?? '', join(folder, 'disk.raw')),
        look,
      }
    }
    const rows = await compare(
      [
        {
          name: 'calotype',
          environment: ourEnvironment,
          command: (folder) =>
            ourCommand('ours-restore.ts', ours.folder, digestOf(ours), join(folder, 'disk.raw')),
          secondsOf: (said) => (JSON.parse(said) as { jobSeconds: number }).jobSeconds,
          look,
        },
        peer(qemuImgCapture('qemu-img', disk), qcow2, (from, target) => [
          ...['qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', '-m', '16', '-W'],
          ...[join(from, 'disk.qcow2'), target],
        ]),
        peer(resticCapture('restic', disk), restic, (_from, target) => [
          ...['sh', '-c', 'restic dump --quiet latest disk > "$1"', 'sh', target],
        ]),
        peer(borgCapture('borg', disk), borg, (from, target) => [
          ...['sh', '-c', 'borg extract --stdout "$1::one" > "$2"', 'sh', join(from, 'repository'), target],
        ]),
      ],
      say,
    )
    return {
      rows,
      races: [{ ours: 'calotype', peers: ['qemu-img', 'restic', 'borg'] }],
      marks: [...markOf(rows, 'qemu-img'), ...markOf(rows, 'restic'), ...markOf(rows, 'borg')],
    }
  })
}
