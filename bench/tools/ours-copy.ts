import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseHash } from '../../src/image/ids.ts'
import type { PullJob } from '../../src/tasks/store-words.ts'
import { PEER, type PeerFile, placeOfPeer } from './copy-peer.ts'
import { jobsIn, placeIn, SOURCE, TARGET } from './places.ts'

// One copy between regions as the server does it, as a process of its own. Arguments: FROM TO-FOLDER SESSION DIGEST [WAY].
// The folders are those that `placeIn` takes; FROM is one, or the `.json` file of a peer. WAY: 'pull'; 'tell', the same with
// a line for each progress; 'plan', which moves nothing but what it takes to compare. Says what it did as JSON.

const [from = '', to = '', session = '', digest = '', way = 'pull'] = process.argv.slice(2)
const isPeer = from.endsWith('.json')
const peers = isPeer ? [placeOfPeer(JSON.parse(readFileSync(from, 'utf8')) as PeerFile)] : []
const places = [...(isPeer ? [] : [placeIn(from, SOURCE)]), placeIn(to, TARGET)]
const runDirectory = await mkdtemp(join(tmpdir(), 'calo-'))
const jobs = jobsIn(places, runDirectory, 1, { peers })
const say = (what: object) => console.log(JSON.stringify(what))
const job: PullJob = {
  source: isPeer ? { is: 'peer', peer: PEER, regionId: SOURCE } : { is: 'region', regionId: SOURCE },
  isShared: false,
  targetRegionId: TARGET,
  sessionId: session,
  ref: { holder: session, label: {} },
  digest: parseHash('digest', digest),
}
const { signal } = new AbortController()
try {
  const beginMs = performance.now()
  const done =
    way === 'plan'
      ? await jobs.planPull(job, signal)
      : await jobs.pull(job, (bytes) => void (way === 'tell' && say(bytes)), signal)
  say({ ...done, jobSeconds: (performance.now() - beginMs) / 1000 })
} finally {
  await jobs.close()
  await rm(runDirectory, { recursive: true, force: true })
}
