import type { BlobMap, OnBytes } from '../store-jobs.ts'
import { runThread } from './thread.ts'
import type { UnpackData, UnpackNews } from './unpack-thread.ts'

/** As `StoreJobs.unpack`. */
export async function unpackFile(
  data: Omit<UnpackData, 'allowed'>,
  { onBytes, allow }: { readonly onBytes: OnBytes; allow(dataBytes: number): Promise<number> },
  signal: AbortSignal,
): Promise<BlobMap> {
  const allowed = new BigInt64Array(new SharedArrayBuffer(8))
  const refused = new AbortController()
  const raise = async (dataBytes: number) => {
    const bytes = await allow(dataBytes)
    Atomics.store(allowed, 0, BigInt(Math.max(bytes, dataBytes)))
    Atomics.notify(allowed, 0)
  }
  let raising: Promise<void> | undefined
  const onNews = (news: UnpackNews) => {
    if (news.is === 'bytes') onBytes(news.bytes)
    else if (raising === undefined) {
      raising = raise(news.dataBytes)
        .catch((error: unknown) => refused.abort(error))
        .finally(() => {
          raising = undefined
        })
    }
  }
  return runThread<BlobMap>(
    new URL('./unpack-thread.ts', import.meta.url),
    { ...data, allowed } satisfies UnpackData,
    { signal: AbortSignal.any([signal, refused.signal]), onNews },
  )
}
