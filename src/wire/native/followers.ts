import { Fault } from '../../image/fault.ts'
import { splitUrl } from '../acs3.ts'
import type { WireHead } from '../gateway-contract.ts'

export const FOLLOW_PATH = '/v1/events/stream'

/** Far below the streams that the gateway lets in, so that those who follow never keep files from coming and going. */
const COUNT_MAX = 64
const PER_PROJECT_MAX = 16
const HEARTBEAT_MS = 15_000
const AGAIN_MS = 30_000

export interface FollowOptions {
  readonly countMax?: number
  readonly perProjectMax?: number
  readonly heartbeatMs?: number
  readonly againMs?: number
}

/** Those who follow events, as a stream or by waiting for the next, and how many there may be. */
export interface Followers {
  readonly heartbeatMs: number
  /** How often a key is looked at again; rights are, at every heartbeat and event. */
  readonly againMs: number
  /** A place, given back by what this answers, which may be called twice. Fault 'unavailable' reason 'busy'. */
  enter(projectId: string): () => void
}

/** True for a request whose answer goes on for as long as its caller stays. */
export function isFollowed({ method, url }: Pick<WireHead, 'method' | 'url'>): boolean {
  return method === 'GET' && splitUrl(url).path === FOLLOW_PATH
}

export function createFollowers(options: FollowOptions = {}): Followers {
  const { countMax = COUNT_MAX, perProjectMax = PER_PROJECT_MAX } = options
  const inside: { readonly projectId: string }[] = []
  return {
    heartbeatMs: options.heartbeatMs ?? HEARTBEAT_MS,
    againMs: options.againMs ?? AGAIN_MS,
    enter(projectId) {
      const ofProject = inside.filter((one) => one.projectId === projectId).length
      if (inside.length >= countMax || ofProject >= perProjectMax) {
        const message =
          ofProject >= perProjectMax
            ? `Project ${projectId} is followed by ${perProjectMax} already. End one, or ask GET /v1/events without waitMs.`
            : 'Too many follow events at once. Try again in a moment, or ask GET /v1/events without waitMs.'
        throw new Fault('unavailable', message, { reason: 'busy' })
      }
      const place = { projectId }
      inside.push(place)
      return () => {
        const index = inside.indexOf(place)
        if (index >= 0) inside.splice(index, 1)
      }
    },
  }
}
