import type { InspectionOptions } from '../../disk/formats/contract.ts'
import type { FilePlace, OpenFile } from '../store-jobs.ts'
import type { FileAsk, Opened } from './file-thread.ts'
import type { RegionPlace } from './region.ts'
import { TalkingThread } from './talk.ts'

/** As `StoreJobs.openFile`. `region`: where the blob is, if it is one. */
export async function openFile(
  place: FilePlace,
  region: RegionPlace | undefined,
  options: Omit<InspectionOptions, 'signal'>,
  signal: AbortSignal,
): Promise<OpenFile> {
  signal.throwIfAborted()
  const thread = new TalkingThread(new URL('./file-thread.ts', import.meta.url))
  const ask = <Result>(question: FileAsk) => thread.ask<Result>(question)
  // An inspection that nobody waits for any more ends with its thread.
  const stop = () => void thread.close()
  signal.addEventListener('abort', stop, { once: true })
  try {
    const opened = await ask<Opened>({ is: 'open', place, region, options })
    return {
      ...opened,
      serve: (socketPath) => ask({ is: 'serve', socketPath }),
      async close() {
        // In order while it can; the thread's end closes the rest.
        await ask({ is: 'close' }).catch(() => {})
        await thread.close()
      },
    }
  } catch (error) {
    await thread.close()
    signal.throwIfAborted()
    throw error
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
