import { isFault } from '../image/fault.ts'
import type { KnownPeer } from '../peers/contract.ts'
import type { App } from './contract.ts'
import type { Guard } from './guard.ts'

/** A list is looked at by people: one peer that is silent must not keep them from seeing the others. */
const ANSWER_MS = 10_000

export function createPeers(peers: readonly KnownPeer[], guard: Guard): App['peers'] {
  return {
    async list(caller) {
      await guard.admit(caller, 'peers.list', { resource: 'peer/*', reach: 'any' })
      return Promise.all(
        peers.map(async ({ name, url, client }) => {
          const late = AbortSignal.timeout(ANSWER_MS)
          try {
            return { name, url, regions: await client.regions(late), reason: undefined }
          } catch (error) {
            if (isFault(error)) return { name, url, regions: [], reason: error.message }
            if (error !== late.reason) throw error
            const reason = `Peer ${name} has not answered for ${ANSWER_MS / 1000} seconds.`
            return { name, url, regions: [], reason }
          }
        }),
      )
    },
  }
}
