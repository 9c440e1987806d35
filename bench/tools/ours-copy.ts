import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseHash } from '../../src/image/ids.ts'
import { jobsIn, placeIn, SOURCE, TARGET } from './places.ts'

// One copy between regions as the server does it, as a process of its own. Arguments: FROM-FOLDER TO-FOLDER SESSION
// DIGEST; the folders are those that `placeIn` takes. Says what it did as JSON.

const [from = '', to = '', session = '', digest = ''] = process.argv.slice(2)
const runDirectory = await mkdtemp(join(tmpdir(), 'calo-'))
const jobs = jobsIn([placeIn(from, SOURCE), placeIn(to, TARGET)], runDirectory, 1)
try {
  const beginMs = performance.now()
  const copied = await jobs.pull(
    {
      sourceRegionId: SOURCE,
      targetRegionId: TARGET,
      sessionId: session,
      ref: { holder: session, label: {} },
      digest: parseHash('digest', digest),
    },
    () => {},
    new AbortController().signal,
  )
  console.log(JSON.stringify({ ...copied, jobSeconds: (performance.now() - beginMs) / 1000 }))
} finally {
  await jobs.close()
  await rm(runDirectory, { recursive: true, force: true })
}
