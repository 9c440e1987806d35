import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseHash } from '../../src/image/ids.ts'
import { jobsIn, placeIn, SOURCE } from './places.ts'

// One image's disk restored to a raw file as the server does it, as a process of its own, so that its memory counts
// alone. Arguments: FOLDER DIGEST PATH. Says in what time, as JSON.

const [folder = '', digest = '', path = ''] = process.argv.slice(2)
const runDirectory = await mkdtemp(join(tmpdir(), 'calo-'))
const jobs = jobsIn([placeIn(folder, SOURCE)], runDirectory, Math.min(4, availableParallelism()))
try {
  const beginMs = performance.now()
  await jobs.restore(SOURCE, parseHash('digest', digest), 0, path, () => {}, new AbortController().signal)
  console.log(JSON.stringify({ jobSeconds: (performance.now() - beginMs) / 1000 }))
} finally {
  await jobs.close()
  await rm(runDirectory, { recursive: true, force: true })
}
