import type { Packing } from '../../disk/formats/contract.ts'
import type { UnpackLimits } from '../../intake/contract.ts'
import { unpack } from '../../intake/unpack.ts'
import { BlobSink } from '../../store/blob.ts'
import type { BlobJob, BlobMap, FilePlace, OnBytes } from '../store-jobs.ts'
import { holdFile, piecesOf } from './file-source.ts'
import { CHUNK_BYTES } from './plan-disks.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { inThread } from './thread.ts'

/** Unpacks a file into a blob of its own, from the start. */
export interface UnpackData {
  readonly place: FilePlace
  readonly packing: Packing
  readonly limits: UnpackLimits
  readonly region: RegionPlace
  readonly job: BlobJob
  /** One number: how many bytes that are not zero may be written. Raised by whoever is told that more are needed. */
  readonly allowed: BigInt64Array<SharedArrayBuffer>
}

export type UnpackNews =
  | { readonly is: 'bytes'; readonly bytes: Parameters<OnBytes>[0] }
  | { readonly is: 'needed'; readonly dataBytes: number }

const TELL_BYTES = 16 * 1024 * 1024

inThread(async (data: UnpackData, { signal, tell }): Promise<BlobMap> => {
  const { place, packing, limits, region: regionPlace, job, allowed } = data
  const say = (news: UnpackNews) => tell(news)
  const file = await holdFile(place, regionPlace)
  const region = await openRegion(regionPlace)
  let sink: BlobSink | undefined
  try {
    const { sessionId, domain } = job
    sink = await BlobSink.open({ region, sessionId, domain, chunkBytes: CHUNK_BYTES, signal })
    const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
    const waitAllowed = async (dataBytes: number) => {
      for (;;) {
        const seen = Atomics.load(allowed, 0)
        if (dataBytes <= Number(seen)) return
        say({ is: 'needed', dataBytes })
        await Promise.race([Atomics.waitAsync(allowed, 0, seen).value, stopped])
        signal.throwIfAborted()
      }
    }
    let readBytes = 0
    let toldBytes = 0
    const packed = async function* () {
      for await (const piece of piecesOf(file, signal)) {
        readBytes += piece.length
        yield piece
        if (readBytes - toldBytes < TELL_BYTES) continue
        toldBytes = readBytes
        say({ is: 'bytes', bytes: { doneBytes: readBytes, totalBytes: file.sizeBytes, movedBytes: 0 } })
      }
    }
    for await (const piece of unpack(packed(), packing, limits, signal)) {
      signal.throwIfAborted()
      await waitAllowed(sink.dataBytes + piece.length)
      await sink.write(piece)
    }
    return await sink.checkpoint()
  } catch (error) {
    await sink?.abandon()
    throw error
  } finally {
    await file.close()
    region.close()
  }
})
