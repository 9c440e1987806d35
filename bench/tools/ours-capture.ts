import { openSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { RawFileExports } from '../../src/host/export-file.ts'
import { PLAIN_CONFIG } from '../../src/image/config.ts'
import type { DomainId } from '../../src/image/ids.ts'
import { jobsIn, placeIn, SOURCE } from './places.ts'

// One capture as the server does it, from a `qemu-nbd` export into the store in a folder, as a process of its own, so
// that its memory counts alone. Arguments: DISK FOLDER SESSION WAY. Says what it did, and in what time, as JSON.

const [disk = '', folder = '', session = ''] = process.argv.slice(2)
// WAY 'file': as an import reads a raw file; 'nbd': as a machine's disk is read.
const raw = process.argv[5] === 'nbd' ? {} : { rawDescriptor: openSync(disk, 'r') }
const runDirectory = await mkdtemp(join(tmpdir(), 'calo-'))
const signal = new AbortController().signal
const files = new RawFileExports({ runDirectory, recordDirectory: runDirectory })
const jobs = jobsIn([placeIn(folder, SOURCE)], runDirectory, Math.min(4, availableParallelism()))
try {
  const beginMs = performance.now()
  const { sizeBytes, socketPath, exportName } = await files.open(disk, session, signal)
  const [written] = await jobs.write(
    {
      regionId: SOURCE,
      sessionId: session,
      domain: 'org-bench' as DomainId,
      disks: [{ sizeBytes, socketPath, exportName, mapName: exportName, bus: 'virtio-blk', ...raw }],
      consistency: 'filesystem',
      images: [
        {
          ...{ disks: [0], config: PLAIN_CONFIG, os: { type: 'linux', name: 'bench' }, parent: undefined },
          ref: { holder: session, label: {} },
        },
      ],
    },
    () => {},
    signal,
  )
  console.log(JSON.stringify({ ...written, jobSeconds: (performance.now() - beginMs) / 1000 }))
} finally {
  await jobs.close()
  await files.close(session)
  await rm(runDirectory, { recursive: true, force: true })
}
