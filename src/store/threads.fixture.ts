import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { PLAIN_CONFIG } from '../image/config.ts'
import type { DomainId } from '../image/ids.ts'
import { openDirectoryObjects } from '../objects/directory.ts'
import { commitImage, cutStripes, type NewImage, type Stripe } from './capture.ts'
import { CHUNK_BYTES_DEFAULT } from './chunk.ts'
import { type CaptureCounts, sumCounts } from './chunk-writer.ts'
import { newClaims } from './claims.ts'
import { LocalWrapper } from './keys.ts'
import { newDiskIds } from './map.ts'
import { openRegionStore } from './region.ts'

export interface ThreadWork {
  readonly folder: string
  readonly indexPath: string
  readonly regionKey: Uint8Array
  readonly sessionId: string
  readonly domain: DomainId
  readonly filePath: string
  readonly sizeBytes: number
  readonly chunkBytes: number
  readonly stripes: readonly Stripe[]
  /** The next stripe to take, shared. */
  readonly cursor: Int32Array<SharedArrayBuffer>
  readonly ids: Uint8Array<SharedArrayBuffer>
  readonly claims: SharedArrayBuffer
}

export interface FileCapture {
  readonly folder: string
  readonly indexPath: string
  readonly regionKey: Uint8Array
  readonly sessionId: string
  readonly domain: DomainId
  readonly filePath: string
  readonly sizeBytes: number
  readonly extents: readonly { readonly offset: number; readonly lengthBytes: number }[]
  readonly threadCount?: number
}

/** Captures a raw file with worker threads, the way a task does from NBD exports. */
export async function captureFile(capture: FileCapture) {
  const { folder, indexPath, regionKey, sessionId, domain, filePath, sizeBytes, extents } = capture
  const chunkBytes = CHUNK_BYTES_DEFAULT
  const objects = await openDirectoryObjects({ folder, clean: false })
  const region = await openRegionStore({ objects, indexPath, wrapper: new LocalWrapper(regionKey) })
  try {
    await region.openSession(sessionId, domain)
    await region.ensureDomain(domain)
    const stripes = cutStripes(extents, sizeBytes, chunkBytes)
    const dataBytes = stripes.reduce((sum, stripe) => sum + stripe.dataBytes, 0)
    const ids = newDiskIds(sizeBytes, chunkBytes)
    const work: ThreadWork = {
      folder,
      indexPath,
      regionKey,
      sessionId,
      domain,
      filePath,
      sizeBytes,
      chunkBytes,
      stripes,
      cursor: new Int32Array(new SharedArrayBuffer(4)),
      ids,
      claims: newClaims(Math.ceil(dataBytes / chunkBytes)),
    }
    const threadCount = capture.threadCount ?? Math.min(2, availableParallelism())
    const counts = sumCounts(await Promise.all(Array.from({ length: threadCount }, () => runThread(work))))
    const image: NewImage = {
      domain,
      disks: [{ index: 0, bus: 'virtio-blk', sizeBytes, chunkBytes, ids }],
      config: PLAIN_CONFIG,
      os: { type: 'linux', name: 'Test' },
      parent: null,
      consistency: 'crash',
    }
    return { ...(await commitImage(region, sessionId, image)), counts }
  } finally {
    region.close()
  }
}

function runThread(work: ThreadWork): Promise<CaptureCounts> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./capture-worker.fixture.ts', import.meta.url), { workerData: work })
    worker.once('message', resolve)
    worker.once('error', reject)
    worker.once('exit', (code) => reject(new Error(`the thread ended with ${code}`)))
  })
}
