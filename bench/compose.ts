import { basename, dirname } from 'node:path'
import { stopServer } from '../demo/server.ts'
import { ensureDemoDisk, GIB } from './tools/data.ts'
import {
  importDisk,
  launchLive,
  REGION,
  removeMachines,
  startLiveServer,
  taskDone,
} from './tools/live-machine.ts'
import { median, withScratch } from './tools/measure.ts'
import type { Bench } from './tools/report.ts'

// An image from snapshots of a machine's two disks, from the request to the end of its task as a client sees both: no
// byte is moved. Beside it a capture of the same machine with nothing changed.

const COUNT = 30
const GOAL_MS = 50

export const run: Bench = async (say) => {
  const disk = await ensureDemoDisk(say)
  return withScratch(async (scratch) => {
    const server = await startLiveServer(scratch, dirname(disk))
    const post = <Answer>(path: string, body: object) =>
      server.native.call<Answer>('POST', path, { body: { region: REGION, ...body } })
    try {
      const machine = await launchLive(server, await importDisk(server, basename(disk), 'base'), GIB)
      await machine.console.run(
        'dd if=/dev/urandom of=/dev/vdb bs=1M count=256 conv=fsync 2>/dev/null; echo done',
      )
      const snapshotIds: string[] = []
      for (const choice of ['system', 'data']) {
        const body = { machineId: machine.id, disk: choice, name: `bench-${choice}` }
        const made = await post<{ snapshotId: string; taskId: string }>('/v1/snapshots', body)
        await taskDone(server, made.taskId)
        snapshotIds.push(made.snapshotId)
      }
      const timed = async (path: string, body: (i: number) => object, count: number) => {
        const all: number[] = []
        for (let i = -2; i < count; i++) {
          const beginMs = performance.now()
          const made = await post<{ taskId: string }>(path, body(i))
          await taskDone(server, made.taskId)
          if (i >= 0) all.push((performance.now() - beginMs) / 1000)
        }
        return all
      }
      const composed = await timed(
        '/v1/images/compose',
        (i) => ({ snapshotIds, name: `composed${i}` }),
        COUNT,
      )
      say(`composed: ${composed.map((one) => (one * 1000).toFixed(1)).join(', ')} ms`)
      const captured = await timed(
        '/v1/images/capture',
        (i) => ({ machineId: machine.id, name: `captured${i}`, disks: 'all' }),
        5,
      )
      const row = (name: string, seconds: readonly number[]) => ({
        ...{ name, seconds: median(seconds) },
        runsSeconds: seconds.map((one) => Number(one.toFixed(4))),
      })
      const middleMs = median(composed) * 1000
      return {
        rows: [row('calotype', composed), row('calotype, capture of nothing new', captured)],
        races: [{ ours: 'calotype', peers: ['calotype, capture of nothing new'] }],
        marks: [
          {
            what: 'an image from two snapshots, ms',
            ...{ goal: `< ${GOAL_MS}`, got: middleMs, met: middleMs < GOAL_MS },
          },
        ],
      }
    } finally {
      await removeMachines(server)
      await stopServer(server)
    }
  })
}
