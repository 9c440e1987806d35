import { readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Server, startServer, stopServer } from '../demo/server.ts'
import { BASE_FOLDER, DESKTOP_TYPE, importBase } from '../demo/steps.ts'
import { findId, spellId } from '../src/image/ids.ts'
import { ensureDemoDisk } from './tools/data.ts'
import { bootLocally, untilUp, wordsOf } from './tools/guest-floor.ts'
import { median, RUN_COUNT, withScratch } from './tools/measure.ts'
import type { Bench } from './tools/report.ts'

// From CreateDesktops to the guest's own word that it is up, with its disk lazily read from our image, beside the
// same guest with the same words for QEMU over a local overlay on the raw disk: the floor. Without KVM on purpose, so
// that it is the same everywhere; most of the time is then the guest's own.

const REGION = 'cn-hangzhou'

interface Launched {
  readonly id: string
  readonly folder: string
  readonly seconds: number
}

async function launch(server: Server, imageId: string): Promise<Launched> {
  const beginMs = performance.now()
  const made = (await server.wuying('CreateDesktops', {
    RegionId: REGION,
    DesktopName: 'bench',
    DesktopAttachment: JSON.stringify({ ImageId: imageId, DesktopType: DESKTOP_TYPE }),
  })) as { DesktopId: string[] }
  const id = findId('machine', made.DesktopId[0] ?? '')
  if (id === undefined) throw new Error('CreateDesktops answers the id')
  const folder = join(server.data, 'machines', id)
  await untilUp(join(folder, 'console.log'))
  return { id: spellId('machine', id, 'native'), folder, seconds: (performance.now() - beginMs) / 1000 }
}

async function remove(server: Server, machine: Launched): Promise<void> {
  const path = `/v1/machines/${machine.id}`
  const list = () =>
    server.native.call<{ machines: { id: string; state: string }[] }>('GET', '/v1/machines', {
      query: { region: REGION, limit: 100 },
    })
  // The guest is up before its task has ended.
  while (!(await list()).machines.some(({ id, state }) => id === machine.id && state === 'running'))
    await delay(50)
  await server.native.call('DELETE', path, { query: { region: REGION } })
  while ((await list()).machines.some(({ id }) => id === machine.id)) await delay(50)
}

export const run: Bench = async (say) => {
  const base = await ensureDemoDisk(say)
  return withScratch(async (scratch) => {
    const start = () =>
      startServer({
        data: join(scratch, 'data'),
        listen: '127.0.0.1:0',
        importDirectory: BASE_FOLDER,
        environment: { CALOTYPE_HOST_ACCELERATION: 'tcg', CALOTYPE_HOST_GRACE_SECONDS: '0' },
      })
    let server = await start()
    const times = { running: [] as number[], started: [] as number[], floor: [] as number[] }
    try {
      const image = await importBase(server, REGION, 'bench-base')
      for (let run = 0; run <= RUN_COUNT; run++) {
        await stopServer(server)
        await rm(join(server.data, 'endpoint'), { force: true })
        server = await start()
        const first = await launch(server, image.id)
        await remove(server, first)
        const second = await launch(server, image.id)
        const words = wordsOf(Number(readFileSync(join(second.folder, 'qemu.pid'), 'utf8')))
        await remove(server, second)
        const floor = await bootLocally(words, second.folder, base)
        say(
          `${run === 0 ? 'warm-up' : `run ${run}`}: just started ${first.seconds.toFixed(2)} s, ` +
            `running ${second.seconds.toFixed(2)} s, floor ${floor.toFixed(2)} s`,
        )
        if (run === 0) continue
        times.started.push(first.seconds)
        times.running.push(second.seconds)
        times.floor.push(floor)
      }
    } finally {
      await stopServer(server)
    }
    const row = (name: string, seconds: readonly number[]) => ({
      name,
      seconds: median(seconds),
      runsSeconds: seconds.map((one) => Number(one.toFixed(3))),
    })
    return {
      rows: [
        row('calotype', times.running),
        row('calotype, server just started', times.started),
        row('local overlay', times.floor),
      ],
      races: [{ ours: 'calotype', peers: ['local overlay'] }],
      marks: [],
    }
  })
}
