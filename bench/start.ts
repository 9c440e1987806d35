import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { ROOT, type Server, startServer, stopServer } from '../demo/server.ts'
import { BASE_FOLDER, createImage, DESKTOP_TYPE, importBase } from '../demo/steps.ts'
import { ensureDemoDisk } from './tools/data.ts'
import { median, statusBytes, withScratch } from './tools/measure.ts'
import type { Bench } from './tools/report.ts'

// How soon `calotype serve` answers on a data directory that holds images and machines, and what it takes up when it
// then has nothing to do. The machines are there and stopped: a running guest would have a core to itself.

const RUNS = 5
const IDLE_MS = 10_000
const MACHINE_COUNT = 3
const READY_SECONDS_MAX = 1
const IDLE_BYTES_MAX = 120e6
const REGION = 'cn-hangzhou'

/** A base image, machines made from it, and an image of one of them. */
async function fill(server: Server): Promise<void> {
  const base = await importBase(server, REGION, 'bench-base')
  const made = (await server.wuying('CreateDesktops', {
    RegionId: REGION,
    DesktopName: 'bench',
    Amount: MACHINE_COUNT,
    DesktopAttachment: JSON.stringify({ ImageId: base.id, DesktopType: DESKTOP_TYPE }),
  })) as { DesktopId: string[] }
  await untilAll(server, made.DesktopId, 'Running')
  await server.wuying('StopDesktops', { RegionId: REGION, DesktopId: made.DesktopId })
  await untilAll(server, made.DesktopId, 'Stopped')
  await createImage(server.wuying, REGION, { DesktopId: made.DesktopId[0], ImageName: 'bench-image' })
}

async function untilAll(server: Server, ids: readonly string[], status: string): Promise<void> {
  for (;;) {
    const answer = (await server.wuying('DescribeDesktops', { RegionId: REGION, DesktopId: ids })) as {
      Desktops: { DesktopStatus: string }[]
    }
    if (answer.Desktops.some((desktop) => desktop.DesktopStatus === 'Failed'))
      throw new Error('a machine failed')
    if (answer.Desktops.every((desktop) => desktop.DesktopStatus === status)) return
    await delay(100)
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
  return address.port
}

async function stop(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  await gone
}

/** Starts the server and asks until it answers. */
async function startOnce(data: string): Promise<{ readonly child: ChildProcess; readonly seconds: number }> {
  const listen = `127.0.0.1:${await freePort()}`
  const beginMs = performance.now()
  const words = ['serve', '--data', data, '--listen', listen]
  const child = spawn(join(ROOT, 'bin/calotype'), words, { stdio: 'ignore' })
  for (;;) {
    const isUp = await fetch(`http://${listen}/healthz`).then(
      (answer) => answer.ok,
      () => false,
    )
    if (isUp) return { child, seconds: (performance.now() - beginMs) / 1000 }
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}`)
    await delay(5)
  }
}

export const run: Bench = async (say) => {
  await ensureDemoDisk(say)
  return withScratch(async (scratch) => {
    const data = join(scratch, 'data')
    const server = await startServer({ data, listen: '127.0.0.1:0', importDirectory: BASE_FOLDER })
    try {
      await fill(server)
    } finally {
      await stopServer(server)
    }
    const times: number[] = []
    const idle: number[] = []
    for (let run = 0; run <= RUNS; run++) {
      const { child, seconds } = await startOnce(data)
      say(`${run === 0 ? 'warm-up' : `run ${run}`}: ${seconds.toFixed(3)} s`)
      if (run > 0) times.push(seconds)
      if (run >= RUNS - 2) {
        await delay(IDLE_MS)
        idle.push(statusBytes(child.pid, 'VmRSS'))
      }
      await stop(child)
    }
    const seconds = median(times)
    const idleRssBytes = median(idle)
    const runsSeconds = times.map((one) => Number(one.toFixed(3)))
    return {
      rows: [{ name: 'calotype serve', seconds, idleRssBytes, runsSeconds }],
      races: [],
      marks: [
        {
          what: 'seconds to the first answer',
          goal: `<= ${READY_SECONDS_MAX}`,
          got: seconds,
          met: seconds <= READY_SECONDS_MAX,
        },
        {
          what: 'idle MB',
          goal: `< ${IDLE_BYTES_MAX / 1e6}`,
          got: idleRssBytes / 1e6,
          met: idleRssBytes < IDLE_BYTES_MAX,
        },
      ],
    }
  })
}
