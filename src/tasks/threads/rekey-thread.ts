import { reportDomainOf } from '../../store/bundle/foreign.ts'
import { rekeyImage } from '../../store/rekey.ts'
import type { RekeyJob, WrittenImage } from '../store-jobs.ts'
import { type CopyPlaces, refWith, withCopyEnds } from './copy-source.ts'
import { inThread } from './thread.ts'

export interface RekeyData {
  readonly places: CopyPlaces
  readonly job: Pick<RekeyJob, 'digest' | 'sessionId' | 'ref' | 'domain'>
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0)

inThread(
  ({ places, job }: RekeyData, { signal, tell }): Promise<WrittenImage> =>
    withCopyEnds(places, signal, async ({ source, target, reports, rangeBytesMax, dataBytes }) => {
      const ref = refWith(job.ref, dataBytes)
      const { digest, diskDataBytes, diskMovedBytes, storedBytes } = await rekeyImage({
        ...{ ...job, ref, source, target, signal, rangeBytesMax, onProgress: tell },
        openReport: async (image) =>
          image.report === null ? undefined : (await reportDomainOf(reports, image)).openReport(image.report),
      })
      return {
        ...{ digest, diskDataBytes, diskReadBytes: diskMovedBytes, storedBytes },
        dataBytes: sum(diskDataBytes),
        movedBytes: sum(diskMovedBytes),
      }
    }),
)
