import { open, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { stopServer } from '../demo/server.ts'
import { runTool } from '../src/host/tools/run.ts'
import { ensureDemoDisk, ensureDisk, GIB, noise } from './tools/data.ts'
import { debianDisk } from './tools/debian-disk.ts'
import {
  type Captured,
  captureLive,
  importDisk,
  launchLive,
  removeMachines,
  startLiveServer,
  writeRate,
} from './tools/live-machine.ts'
import { fasterThan } from './tools/marks.ts'
import { type Contender, median, RUN_COUNT, withScratch } from './tools/measure.ts'
import { borgCapture, resticCapture } from './tools/peers.ts'
import type { Bench, Mark, Row } from './tools/report.ts'
import { compareSecond } from './tools/second.ts'

// A running guest is captured: how long it stands still when idle and when it writes as fast as it can, what is left of
// its rate of writing meanwhile, and what a capture costs after 200 MiB of its 20 GiB, full of data, have changed. The peers are given
// the same disk as a file, before and after; nobody tells them where it changed. Under TCG, so that it is the same
// everywhere: a guest under KVM writes more.

const MIB = 1024 ** 2
const DISK_BYTES = 20 * GIB
const CHANGED_BYTES = 200 * MIB
/** Behind the guest's own file system, in what a Debian's disk held. */
const CHANGED_OFFSET = 8 * GIB
const CHUNK_BYTES = 256 * 1024
const ZEROES = Buffer.alloc(CHUNK_BYTES)
/** Behind the demo's disk. */
const FILLED_OFFSET = 4 * GIB
const CAPTURE_COUNT = 5
const IDLE_MS = 20
const BUSY_MS = 100

/** The demo's disk, which boots, at the start of 20 GiB that are filled with what a Debian's disk holds, again and again. */
async function ensureBigDisk(say: (line: string) => void): Promise<string> {
  const demo = await ensureDemoDisk(say)
  const debian = await debianDisk.ensure(say)
  return ensureDisk('live-20.raw', async (path) => {
    say('making a disk of 20 GiB, once')
    await runTool('cp', ['--sparse=always', demo, path], {
      ...{ doing: 'Copying the disk', package: 'coreutils', timeoutMs: 600_000 },
    })
    const target = await open(path, 'r+')
    const source = await open(debian, 'r')
    const chunk = Buffer.alloc(CHUNK_BYTES)
    let at = FILLED_OFFSET
    while (at < DISK_BYTES) {
      for (let from = 0; at < DISK_BYTES; from += CHUNK_BYTES) {
        const { bytesRead } = await source.read(chunk, 0, CHUNK_BYTES, from)
        if (bytesRead < CHUNK_BYTES) break
        if (chunk.equals(ZEROES)) continue
        await target.write(chunk, 0, CHUNK_BYTES, at)
        at += CHUNK_BYTES
      }
    }
    await target.sync()
    await target.close()
    await source.close()
  })
}

/** The same with 200 MiB of it changed, in one run, as one large file would be. */
async function ensureChangedBigDisk(disk: string): Promise<string> {
  return ensureDisk('live-20-changed.raw', async (path) => {
    await runTool('cp', ['--sparse=always', disk, path], {
      ...{ doing: 'Copying the disk', package: 'coreutils', timeoutMs: 600_000 },
    })
    const file = await open(path, 'r+')
    const next = noise(9)
    for (let at = 0; at < CHANGED_BYTES; at += 4 * MIB)
      await file.write(next(4 * MIB), 0, 4 * MIB, CHANGED_OFFSET + at)
    await file.sync()
    await file.close()
  })
}

const row = (name: string, captures: readonly Captured[]): Row => ({
  name,
  seconds: median(captures.map(({ seconds }) => seconds)),
  runsSeconds: captures.map(({ seconds }) => seconds),
  pausedMs: captures.map(({ pausedMs }) => pausedMs),
  movedBytes: median(captures.map(({ readBytes }) => readBytes)),
})

async function ours(disk: string, scratch: string, say: (line: string) => void) {
  const server = await startLiveServer(scratch, dirname(disk))
  try {
    const imageId = await importDisk(server, basename(disk), 'custom')
    const machine = await launchLive(server, imageId, 4 * GIB)
    say(`first capture: ${JSON.stringify(await captureLive(server, machine, 'first'))}`)
    const idle: Captured[] = []
    for (let i = 0; i < CAPTURE_COUNT; i++) idle.push(await captureLive(server, machine, `idle-${i}`))
    say(`idle: paused ${idle.map(({ pausedMs }) => pausedMs.toFixed(1)).join(', ')} ms`)

    // Not zeroes: those would become holes and cost neither the guest nor us what bytes cost.
    await machine.console.run("tr '\\0' x < /dev/zero | head -c 4194304 > /tmp/x; sync; echo made")
    const pass = 'dd if=/tmp/x of=/dev/vdb bs=64k seek=$((i * 64)) conv=notrunc,fsync 2>/dev/null'
    const loop = `i=0; while :; do ${pass}; i=$(((i + 1) % 1000)); done`
    await machine.console.run(`(${loop}) & echo $! > /tmp/writer`)
    const busy: Captured[] = []
    const shares: number[] = []
    for (let i = 0; i < CAPTURE_COUNT; i++) {
      const before = await writeRate(machine, 1, 4_000)
      const during = await writeRate(machine, 1, async () =>
        busy.push(await captureLive(server, machine, `busy-${i}`)),
      )
      shares.push(during / before)
      say(
        `busy: paused ${busy[i]?.pausedMs.toFixed(1)} ms, ${(before / MIB).toFixed(1)} MiB/s before and ` +
          `${(during / MIB).toFixed(1)} MiB/s in ${busy[i]?.seconds.toFixed(1)} s of capture`,
      )
    }
    await machine.console.run('kill $(cat /tmp/writer); killall dd; sync; sleep 1; echo stopped')
    await captureLive(server, machine, 'quiet')

    const changed: Captured[] = []
    for (let i = 0; i <= RUN_COUNT; i++) {
      const seek = CHANGED_OFFSET / MIB
      const count = CHANGED_BYTES / MIB
      await machine.console.run(
        `dd if=/dev/urandom of=/dev/vda bs=1M seek=${seek} count=${count} conv=notrunc,fsync 2>/dev/null; echo done`,
      )
      const one = await captureLive(server, machine, `changed-${i}`)
      say(`changed: ${one.seconds.toFixed(2)} s, read ${(one.readBytes / MIB).toFixed(1)} MiB, ${one.ways}`)
      if (i > 0) changed.push(one)
    }
    return { idle, busy, shares, changed }
  } finally {
    await removeMachines(server)
    await stopServer(server)
  }
}

export const run: Bench = async (say) => {
  const why = debianDisk.whyNot()
  if (why !== undefined) return { rows: [{ name: 'calotype', reason: why }], races: [], marks: [] }
  const disk = await ensureBigDisk(say)
  const changedDisk = await ensureChangedBigDisk(disk)
  return withScratch(async (scratch) => {
    const { idle, busy, shares, changed } = await ours(disk, scratch, say)
    await rm(join(scratch, 'data'), { recursive: true, force: true })
    const pairs: [Contender, Contender][] = [
      [resticCapture('restic', disk), resticCapture('restic', changedDisk)],
      [borgCapture('borg', disk), borgCapture('borg', changedDisk, 'two')],
    ]
    const peers = await compareSecond(pairs, join(scratch, 'peers'), say)
    const rows = [
      row('calotype', changed),
      row('calotype, idle guest', idle),
      {
        ...row('calotype, guest that writes', busy),
        rateShares: shares.map((one) => Number(one.toFixed(2))),
      },
      ...peers,
    ]
    const race = { what: '200 MiB of 20 GiB changed', rows, ours: 'calotype' }
    const atMost = (what: string, got: number, goal: number): Mark => ({
      ...{ what, goal: `< ${goal}`, got, met: got < goal },
    })
    const read = median(changed.map(({ readBytes }) => readBytes))
    const share = Math.min(...shares)
    return {
      rows,
      races: [{ ours: 'calotype', peers: ['restic', 'borg'] }],
      marks: [
        atMost(
          'longest pause of an idle guest, ms',
          Math.max(...idle.map(({ pausedMs }) => pausedMs)),
          IDLE_MS,
        ),
        atMost(
          'longest pause of a guest that writes, ms',
          Math.max(...busy.map((one) => one.pausedMs)),
          BUSY_MS,
        ),
        { what: 'least share of its rate while captured', goal: '>= 0.5', got: share, met: share >= 0.5 },
        {
          what: 'bytes read by bytes changed',
          ...{ goal: '<= 1.5', got: read / CHANGED_BYTES, met: read <= 1.5 * CHANGED_BYTES },
        },
        ...fasterThan(race, 'restic', 20),
        ...fasterThan(race, 'borg', 20),
      ],
    }
  })
}
