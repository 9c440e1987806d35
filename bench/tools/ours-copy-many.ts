import { readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseHash, type RegionId } from '../../src/image/ids.ts'
import { createGate } from '../../src/tasks/gates.ts'
import { PEER, type PeerFile, placeOfPeer } from './copy-peer.ts'
import { jobsIn, placeIn, SOURCE } from './places.ts'

// One image copied to many regions as a batch of the server does it, as a process of its own. Arguments: FROM TO-FOLDER
// DIGEST COUNT AT-ONCE; FROM as of ours-copy.ts. A target whose copy is made is removed: the disk holds a few at a time. Says
// what it did as JSON; `readBytes` are those that the process had the disk read.

const [from = '', to = '', digest = '', count = '', atOnce = ''] = process.argv.slice(2)
const isPeer = from.endsWith('.json')
const peers = isPeer ? [placeOfPeer(JSON.parse(readFileSync(from, 'utf8')) as PeerFile)] : []
const targets = Array.from({ length: Number(count) }, (_, i) => `target-${i}` as RegionId)
const places = targets.map((regionId) => placeIn(to, regionId))
const runDirectory = await mkdtemp(join(tmpdir(), 'calo-'))
// What it keeps lies on the disk of the targets, as a server's does.
const cacheFolder = join(to, 'cache')
const jobs = jobsIn([...(isPeer ? [] : [placeIn(from, SOURCE)]), ...places], runDirectory, 1, {
  ...{ peers, cacheFolder },
})
const gate = createGate(Number(atOnce))
const { signal } = new AbortController()

async function copyTo(targetRegionId: RegionId): Promise<number> {
  const release = await gate.enter(signal)
  try {
    const { movedBytes } = await jobs.pull(
      {
        source: isPeer ? { is: 'peer', peer: PEER, regionId: SOURCE } : { is: 'region', regionId: SOURCE },
        ...{ isShared: true, targetRegionId, sessionId: 'copy', ref: { holder: 'copy', label: {} } },
        digest: parseHash('digest', digest),
      },
      () => {},
      signal,
    )
    await rm(join(to, targetRegionId), { recursive: true, force: true })
    return movedBytes
  } finally {
    release()
  }
}

try {
  const readBefore = await diskReadBytes()
  const beginMs = performance.now()
  const moved = await Promise.all(targets.map(copyTo))
  const jobSeconds = (performance.now() - beginMs) / 1000
  const readBytes = (await diskReadBytes()) - readBefore
  const movedBytes = moved.reduce((sum, one) => sum + one, 0)
  console.log(JSON.stringify({ movedBytes, readBytes, jobSeconds }))
} finally {
  await jobs.close()
  await rm(runDirectory, { recursive: true, force: true })
}

async function diskReadBytes(): Promise<number> {
  const text = await readFile('/proc/self/io', 'utf8')
  return Number(/^read_bytes: (\d+)$/m.exec(text)?.[1] ?? Number.NaN)
}
