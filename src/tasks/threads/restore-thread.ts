import type { Digest } from '../../image/ids.ts'
import { fillStripes, type RestoreShare, restoreImage } from '../../store/restore.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { inThread, runThread } from './thread.ts'

/** The leader of one restore makes the file and sets the others to work; all of them write. */
export type RestoreData =
  | {
      readonly is: 'leader'
      readonly place: RegionPlace
      readonly digest: Digest
      readonly diskIndex: number
      readonly path: string
      readonly threadCount: number
    }
  | { readonly is: 'follower'; readonly share: RestoreShare; readonly place: RegionPlace }

/** A message costs more than the writing of a chunk. */
const TELL_BYTES = 16 * 1024 * 1024

inThread(async (data: RestoreData, { signal, tell }): Promise<void> => {
  const region = await openRegion(data.place)
  try {
    if (data.is === 'follower') {
      let newBytes = 0
      await fillStripes({
        region,
        share: data.share,
        signal,
        onBytes(bytes) {
          newBytes += bytes
          if (newBytes < TELL_BYTES) return
          tell(newBytes)
          newBytes = 0
        },
      })
      tell(newBytes)
      return
    }
    const { place, digest, diskIndex, path, threadCount } = data
    let doneBytes = 0
    let toldBytes = 0
    const fill = async (share: RestoreShare, wrote: (bytes: number) => void): Promise<void> => {
      const totalBytes = share.stripes.reduce((sum, stripe) => sum + stripe.dataBytes, 0)
      const onBytes = (bytes: number) => {
        wrote(bytes)
        doneBytes += bytes
        if (doneBytes < totalBytes && doneBytes - toldBytes < TELL_BYTES) return
        toldBytes = doneBytes
        tell({ doneBytes, totalBytes, movedBytes: 0 })
      }
      tell({ doneBytes, totalBytes, movedBytes: 0 })
      const together = new AbortController()
      const both = AbortSignal.any([signal, together.signal])
      const follower: RestoreData = { is: 'follower', share, place }
      const count = Math.min(threadCount, share.stripes.length)
      const running = Array.from({ length: count }, (_, i) =>
        // The leader is the last: it begins at once, while the others are still starting.
        i === count - 1
          ? fillStripes({ region, share, signal: both, onBytes })
          : runThread<void>(new URL(import.meta.url), follower, { signal: both, onNews: onBytes }),
      )
      for (const one of running) {
        // The first failure is the one to tell; it stops the others.
        one.catch((error: unknown) => together.abort(error))
      }
      await Promise.allSettled(running)
      signal.throwIfAborted()
      if (together.signal.aborted) throw together.signal.reason
    }
    await restoreImage({ region, digest, diskIndex, path, signal, fill })
  } finally {
    region.close()
  }
})
