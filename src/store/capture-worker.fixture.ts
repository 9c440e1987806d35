import { closeSync, openSync, readSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { openDirectoryObjects } from '../objects/directory.ts'
import { plainBytesOf } from './chunk.ts'
import { ChunkWriter } from './chunk-writer.ts'
import { LocalWrapper } from './keys.ts'
import { openRegionStore } from './region.ts'
import type { ThreadWork } from './threads.fixture.ts'

const work = workerData as ThreadWork
const { sessionId, domain, chunkBytes, sizeBytes, claims, ids } = work
const objects = await openDirectoryObjects({ folder: work.folder, clean: false })
const region = await openRegionStore({
  objects,
  indexPath: work.indexPath,
  wrapper: new LocalWrapper(work.regionKey),
})
const writer = await ChunkWriter.open({ region, sessionId, domain, chunkBytes, claims })
const file = openSync(work.filePath, 'r')
const chunk = Buffer.allocUnsafeSlow(chunkBytes)
for (;;) {
  const stripe = work.stripes[Atomics.add(work.cursor, 0, 1)]
  if (stripe === undefined) break
  for (const run of stripe.runs) {
    for (let index = run.firstIndex; index < run.firstIndex + run.count; index++) {
      const lengthBytes = plainBytesOf(sizeBytes, chunkBytes, index)
      readSync(file, chunk, 0, lengthBytes, index * chunkBytes)
      const wait = writer.feed(ids, index, chunk.subarray(0, lengthBytes))
      if (wait !== undefined) await wait
    }
  }
}
const counts = await writer.finish()
closeSync(file)
region.close()
parentPort?.postMessage(counts)
