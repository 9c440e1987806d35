import { createHash, type Hash } from 'node:crypto'
import { BlobSink } from '../../store/blob.ts'
import type { RegionStore } from '../../store/region.ts'
import type { BlobJob } from '../store-jobs.ts'
import { CHUNK_BYTES } from './plan-disks.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { answer } from './talk.ts'

/** What is asked of the thread into which all blobs go. `key`: of one writer. */
export type BlobAsk =
  | { readonly is: 'open'; readonly key: number; readonly place: RegionPlace; readonly job: BlobJob }
  | { readonly is: 'write'; readonly key: number; readonly bytes: Uint8Array }
  | { readonly is: 'checkpoint' | 'digest'; readonly key: number }
  | { readonly is: 'close'; readonly key: number }
  | LetGoAsk

/** A session that is let go of, with all that it has written; or a ref. */
export type LetGoAsk =
  | { readonly is: 'abort'; readonly place: RegionPlace; readonly sessionId: string }
  | { readonly is: 'release'; readonly place: RegionPlace; readonly holder: string }

interface Open {
  readonly region: RegionStore
  readonly sink: BlobSink
  readonly hash: Hash | undefined
  /** What was asked last: one thing of a writer at a time. */
  turn: Promise<unknown>
}

/** Small ones: each writer has two, and what a checkpoint seals is rarely full. */
const PACK_BYTES = 8 * 1024 * 1024

const writers = new Map<number, Promise<Open>>()

async function open({ place, job }: Extract<BlobAsk, { is: 'open' }>): Promise<Open> {
  const region = await openRegion(place, PACK_BYTES)
  try {
    const { sessionId, domain, map, hash } = job
    const sink = await BlobSink.open({ region, sessionId, domain, map, chunkBytes: CHUNK_BYTES })
    return { region, sink, hash: hash && createHash(hash), turn: Promise.resolve() }
  } catch (error) {
    region.close()
    throw error
  }
}

async function work(
  { sink, hash }: Open,
  ask: Exclude<BlobAsk, LetGoAsk | { is: 'open' | 'close' }>,
): Promise<unknown> {
  switch (ask.is) {
    case 'write':
      hash?.update(ask.bytes)
      return sink.write(ask.bytes)
    case 'checkpoint':
      return sink.checkpoint()
    case 'digest':
      return new Uint8Array(hash?.digest() ?? [])
    default:
      return ask satisfies never
  }
}

async function letGo(ask: LetGoAsk): Promise<void> {
  const region = await openRegion(ask.place)
  try {
    if (ask.is === 'abort') await region.abortSession(ask.sessionId)
    else await region.dropRef(ask.holder)
  } finally {
    region.close()
  }
}

answer<BlobAsk>(async (ask) => {
  if (ask.is === 'abort' || ask.is === 'release') return letGo(ask)
  if (ask.is === 'open') {
    const opening = open(ask)
    writers.set(ask.key, opening)
    opening.catch(() => writers.delete(ask.key))
    await opening
    return
  }
  const writer = await writers.get(ask.key)
  if (ask.is === 'close') {
    writers.delete(ask.key)
    await writer?.turn.catch(() => {})
    await writer?.sink.abandon()
    writer?.region.close()
    return
  }
  if (writer === undefined)
    throw new Error('a writer is opened before it is used, and not used after its end')
  writer.turn = writer.turn.then(() => work(writer, ask))
  return writer.turn
})
