import { planPull } from '../../store/pull.ts'
import type { PullEstimate } from '../store-jobs.ts'
import { type CopyPlaces, withCopyEnds } from './copy-source.ts'
import { inThread } from './thread.ts'

export interface PlanPullData {
  readonly places: CopyPlaces
  readonly sessionId?: string | undefined
}

inThread(
  ({ places, sessionId }: PlanPullData, { signal }): Promise<PullEstimate> =>
    withCopyEnds(places, signal, async ({ source, target, dataBytes }) => {
      const { digest } = places
      // The session of a copy that has not begun is none.
      const isKnown = target.listSessions().some(({ id, state }) => id === sessionId && state === 'open')
      const session = isKnown && sessionId !== undefined ? { sessionId } : {}
      const plan = await planPull({ source, target, digest, signal, ...session })
      const { missingBytes, missingPageBytes, reusedBytes, resumedBytes } = plan
      return {
        ...{ missingBytes: missingBytes + missingPageBytes, savedBytes: reusedBytes, resumedBytes },
        ...(dataBytes === undefined ? {} : { dataBytes }),
      }
    }),
)
