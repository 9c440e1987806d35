import { parentPort, workerData } from 'node:worker_threads'
import { Fault } from '../../image/fault.ts'
import type { PeerEndpointParts, PeerReader } from '../../peers/contract.ts'
import { servePeers } from '../../peers/endpoint.ts'
import type { PeerIdentity } from '../../peers/identity.ts'
import { recently } from '../../peers/recent.ts'
import type { RegionStore } from '../../store/region.ts'
import { standBack } from './priority.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { type FaultText, faultOf } from './thread.ts'

export interface PeerThreadData {
  readonly places: readonly RegionPlace[]
  readonly listen: { readonly host: string; readonly port: number }
  readonly identity: PeerIdentity
  /** By the fingerprint of their certificate. */
  readonly readers: ReadonlyMap<string, PeerReader>
}

/** What only the catalog knows is asked of the thread that has it. */
export type PeerQuestion = 'image' | 'mayRead'
export type FromPeerThread =
  | { readonly is: 'ready'; readonly url: string }
  | { readonly is: 'ask'; readonly number: number; readonly what: PeerQuestion; readonly words: unknown[] }
  | { readonly is: 'report'; readonly error: unknown }
export type ToPeerThread =
  | { readonly is: 'stop' }
  | { readonly is: 'answer'; readonly number: number; readonly result: unknown }
  | { readonly is: 'refusal'; readonly number: number; readonly fault: FaultText }

// Copies of others wait for it, and nobody's guest.
standBack()

const { places, listen, identity, readers } = workerData as PeerThreadData
const stores = new Map<string, Promise<RegionStore>>()
const open = new Map<number, PromiseWithResolvers<unknown>>()
let count = 0

function post(message: FromPeerThread): void {
  parentPort?.postMessage(message)
}

const ask =
  <Result>(what: PeerQuestion) =>
  (...words: unknown[]): Promise<Result> => {
    const number = count++
    const waiting = Promise.withResolvers<unknown>()
    open.set(number, waiting)
    post({ is: 'ask', number, what, words })
    return waiting.promise as Promise<Result>
  }

function regionOf(regionId: string): Promise<RegionStore> {
  const place = places.find((one) => one.regionId === regionId)
  if (place === undefined) {
    return Promise.reject(new Fault('absent', 'There is no such region.', { subject: 'region' }))
  }
  const store = stores.get(regionId) ?? openRegion(place)
  stores.set(regionId, store)
  store.catch(() => stores.delete(regionId))
  return store
}

const parts: PeerEndpointParts = {
  reader: (fingerprint) => readers.get(fingerprint),
  region: regionOf,
  regionIds: places.map(({ regionId }) => regionId),
  image: ask('image'),
  mayRead: recently(ask('mayRead')),
}
const server = await servePeers({
  ...{ listen, identity, parts },
  onError: (error) => post({ is: 'report', error: error instanceof Error ? error.message : String(error) }),
})

parentPort?.on('message', async (message: ToPeerThread) => {
  if (message.is === 'stop') {
    await server.close()
    for (const store of stores.values()) (await store).close()
    process.exit()
  }
  const waiting = open.get(message.number)
  open.delete(message.number)
  if (message.is === 'answer') waiting?.resolve(message.result)
  else waiting?.reject(faultOf(message.fault))
})
post({ is: 'ready', url: server.url })
