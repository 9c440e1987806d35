import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { openPartFile } from '../../src/cli/part-file.ts'
import type { ExportFormat } from '../../src/disk/layouts/contract.ts'
import { parseHash } from '../../src/image/ids.ts'
import { jobsIn, placeIn, SOURCE } from './places.ts'

// One disk of an image as a file, made by the threads of the server and written as our command line writes what it
// downloads, sparse and synced; as a process of its own, all of which is timed. Arguments: FOLDER DIGEST FORMAT PATH.

const [folder = '', digest = '', format = '', path = ''] = process.argv.slice(2)
const runDirectory = await mkdtemp(join(tmpdir(), 'calo-'))
const jobs = jobsIn([placeIn(folder, SOURCE)], runDirectory, Math.min(4, availableParallelism()))
const { signal } = new AbortController()
try {
  const job = {
    ...{ regionId: SOURCE, digest: parseHash('digest', digest), diskIndex: 0 },
    format: format as ExportFormat,
  }
  const sizeBytes = await jobs.exportSize(job, signal)
  const what = { is: 'range', offset: 0, lengthBytes: sizeBytes, sha256: false } as const
  const { body } = await jobs.exportBytes(job, what, signal)
  const file = await openPartFile(path, undefined, false)
  for await (const bytes of body) {
    await file.append({
      lengthBytes: bytes.length,
      bytes: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length),
    })
  }
  await file.finish()
} finally {
  await jobs.close()
  await rm(runDirectory, { recursive: true, force: true })
}
