import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { ourCommand, ourEnvironment } from './calotype.ts'
import { withServedStore } from './copy-link.ts'
import { prepareOurs } from './copy-sources.ts'
import { runCommand } from './measure.ts'
import type { Findings, Row } from './report.ts'

// A copy over the link whose process is killed when half of it is moved, and its second run, which goes on with the session.

const PACK_BYTES = 32 * 1024 ** 2
const NAME = 'calotype, killed at half and started again'

interface Told {
  readonly doneBytes?: number
  readonly movedBytes: number
}

export async function resumePart(
  scratch: string,
  disk: string,
  say: (line: string) => void,
): Promise<Findings> {
  const ours = await prepareOurs(join(scratch, 'resume'), [disk])
  const target = join(scratch, 'resumed')
  const environment = ourEnvironment()
  const copy = (from: string, way: string) =>
    ourCommand('ours-copy.ts', from, target, 'copy', ours.digests[0] ?? '', way)
  const { result: row } = await withServedStore(scratch, ours.folder, async ({ link, peerPath }) => {
    const planned = await runCommand(copy(ours.folder, 'plan'), { environment, result: target })
    const { missingBytes } = JSON.parse(planned.said) as { missingBytes: number }
    const beginBytes = link.movedBytes()
    const killed = await killAt(link.inside(copy(peerPath, 'tell')), environment, missingBytes / 2)
    const firstBytes = link.movedBytes() - beginBytes
    say(`killed: ${killed.movedBytes} bytes moved, ${killed.doneBytes} of them durable`)
    const options = { environment, result: target }
    const { said, peakRssBytes } = await runCommand(link.inside(copy(peerPath, 'pull')), options)
    const { jobSeconds } = JSON.parse(said) as { jobSeconds: number }
    const secondBytes = link.movedBytes() - beginBytes - firstBytes
    say(`started again: ${secondBytes} bytes over the link`)
    const twiceBytes = firstBytes + secondBytes - missingBytes
    return {
      ...{ name: NAME, seconds: jobSeconds, peakRssBytes, missingBytes, firstBytes, secondBytes, twiceBytes },
      ...{ movedBytes: firstBytes + secondBytes, link: link.kind },
      ...(link.note === undefined ? {} : { linkNote: link.note }),
    } satisfies Row
  })
  const got = row.twiceBytes / PACK_BYTES
  return {
    rows: [row],
    races: [],
    marks: [
      {
        what: `${NAME}: bytes that crossed the link and were not missing, packs`,
        ...{ goal: '<= 1', got, met: got <= 1 },
      },
    ],
  }
}

/** Runs the command until it tells that so many bytes were moved; what it told last. */
async function killAt(
  command: readonly string[],
  environment: Readonly<Record<string, string>>,
  bytes: number,
): Promise<Told> {
  const child = spawn(command[0] ?? '', command.slice(1), {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...environment },
  })
  const over = once(child, 'close')
  let last: Told = { movedBytes: 0 }
  for await (const line of createInterface({ input: child.stdout })) {
    last = JSON.parse(line) as Told
    if (last.movedBytes >= bytes) child.kill('SIGKILL')
  }
  const [code] = (await over) as [number | null]
  if (code !== null) throw new Error(`the copy was not killed, and ended with ${code}`)
  return last
}
