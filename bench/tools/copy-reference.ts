import { basename, dirname } from 'node:path'
import { stopServer } from '../../demo/server.ts'
import { importDisk, REGION, startLiveServer } from './live-machine.ts'
import { median } from './measure.ts'
import type { Findings } from './report.ts'

// A copy into another project of the same region, through a server as its user has it: from the request until the image is told to be available.

const COUNT = 30
const WARM_COUNT = 3
const GOAL_MS = 20

type Shown = { readonly state: string; readonly reason: string | null }

export async function referencePart(
  scratch: string,
  disk: string,
  say: (line: string) => void,
): Promise<Findings> {
  const server = await startLiveServer(scratch, dirname(disk))
  try {
    const source = await importDisk(server, basename(disk), 'custom')
    const { project } = await server.native.call<{ project: string }>('POST', '/v1/projects', {
      body: { name: 'Bench' },
    })
    const all: number[] = []
    for (let i = -WARM_COUNT; i < COUNT; i++) {
      const body = { region: REGION, targetProject: project, name: `copy${i}` }
      const beginMs = performance.now()
      const { copies } = await server.native.call<{ copies: readonly { imageId: string }[] }>(
        'POST',
        `/v1/images/${source}/copy`,
        { body },
      )
      const path = `/v1/images/${copies[0]?.imageId}`
      for (;;) {
        const image = await server.native.call<Shown>('GET', path, { query: { region: REGION, project } })
        if (image.state === 'available') break
        if (image.state === 'failed') throw new Error(`a copy failed: ${image.reason}`)
      }
      if (i >= 0) all.push((performance.now() - beginMs) / 1000)
    }
    say(`references: ${all.map((one) => (one * 1000).toFixed(1)).join(', ')} ms`)
    const seconds = median(all)
    const middleMs = seconds * 1000
    return {
      rows: [
        {
          ...{ name: 'calotype, reference', seconds, slowestSeconds: Number(Math.max(...all).toFixed(4)) },
          runsSeconds: all.map((one) => Number(one.toFixed(4))),
        },
      ],
      races: [],
      marks: [
        {
          what: 'a copy into another project of the region, from the request until it is available, ms',
          ...{ goal: `< ${GOAL_MS}`, got: middleMs, met: middleMs < GOAL_MS },
        },
      ],
    }
  } finally {
    await stopServer(server)
  }
}
