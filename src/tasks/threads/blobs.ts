import { Fault } from '../../image/fault.ts'
import type { BlobJob, BlobMap, BlobWriter } from '../store-jobs.ts'
import type { BlobAsk, LetGoAsk } from './blob-thread.ts'
import type { RegionPlace } from './region.ts'
import { TalkingThread } from './talk.ts'

/** Each holds some 20 MiB. */
const OPEN_COUNT_MAX = 48
/** What sockets give comes in small pieces, and a message costs more than a copy. */
const SLAB_BYTES = 1024 * 1024
/** So many of a writer's slabs are on the way to the thread. */
const AHEAD_COUNT = 3
const IDLE_MS = 30_000

/** The writers of all blobs of the process, in one thread that is there while it is needed. Lets go of what came of them, too. */
export class Blobs {
  #thread: TalkingThread | undefined
  #openCount = 0
  #key = 0
  #idle: NodeJS.Timeout | undefined

  /** As `StoreJobs.openBlob`. */
  async open(place: RegionPlace, job: BlobJob, signal: AbortSignal): Promise<BlobWriter> {
    signal.throwIfAborted()
    if (this.#openCount >= OPEN_COUNT_MAX) {
      const message = 'Too many files are being received at once. Go on with this one in a minute.'
      throw new Fault('unavailable', message, { subject: 'store', reason: 'busy' })
    }
    this.#openCount++
    clearTimeout(this.#idle)
    if (this.#thread === undefined || this.#thread.isOver) {
      this.#thread = new TalkingThread(new URL('./blob-thread.ts', import.meta.url))
    }
    const thread = this.#thread
    const key = this.#key++
    const ask = <Result>(question: BlobAsk, bytes?: Uint8Array<ArrayBuffer>) =>
      thread.ask<Result>(question, bytes === undefined ? [] : [bytes.buffer])
    try {
      await ask({ is: 'open', key, place, job })
    } catch (error) {
      this.#left()
      throw error
    }
    return writerOf(ask, key, () => this.#left())
  }

  /**
   * Lets go of something where the thread is there already; false where it is not. Of many files that are refused at once, the waits
   * for the disk then are not those of whoever answers requests.
   */
  async letGo(ask: LetGoAsk): Promise<boolean> {
    const thread = this.#thread
    if (thread === undefined || thread.isOver) return false
    this.#openCount++
    clearTimeout(this.#idle)
    try {
      await thread.ask<void>(ask)
      return true
    } finally {
      this.#left()
    }
  }

  async close(): Promise<void> {
    clearTimeout(this.#idle)
    await this.#thread?.close()
  }

  #left(): void {
    this.#openCount--
    if (this.#openCount > 0) return
    this.#idle = setTimeout(() => {
      const thread = this.#thread
      this.#thread = undefined
      void thread?.close()
    }, IDLE_MS)
    this.#idle.unref()
  }
}

function writerOf(
  ask: <Result>(question: BlobAsk, bytes?: Uint8Array<ArrayBuffer>) => Promise<Result>,
  key: number,
  onClosed: () => void,
): BlobWriter {
  let slab = new Uint8Array(SLAB_BYTES)
  let fill = 0
  let failure: { readonly error: unknown } | undefined
  let closing: Promise<void> | undefined
  const ahead: Promise<unknown>[] = []

  const throwIfFailed = () => {
    if (failure !== undefined) throw failure.error
  }
  const send = async () => {
    if (fill === 0) return
    const bytes = slab.subarray(0, fill)
    slab = new Uint8Array(SLAB_BYTES)
    fill = 0
    const sent = ask({ is: 'write', key, bytes }, bytes).catch((error: unknown) => {
      failure ??= { error }
    })
    ahead.push(sent)
    if (ahead.length > AHEAD_COUNT) await ahead.shift()
    throwIfFailed()
  }
  const settle = async () => {
    throwIfFailed()
    await send()
    await Promise.all(ahead.splice(0))
    throwIfFailed()
  }
  const close = async () => {
    try {
      await ask({ is: 'close', key })
    } catch {
      // A thread that has ended writes no more either.
    } finally {
      onClosed()
    }
  }
  return {
    async write(bytes) {
      throwIfFailed()
      for (let at = 0; at < bytes.length; ) {
        const taken = Math.min(SLAB_BYTES - fill, bytes.length - at)
        slab.set(bytes.subarray(at, at + taken), fill)
        fill += taken
        at += taken
        if (fill === SLAB_BYTES) await send()
      }
    },
    async checkpoint() {
      await settle()
      return ask<BlobMap>({ is: 'checkpoint', key })
    },
    async digest() {
      await settle()
      return Buffer.from(await ask<Uint8Array>({ is: 'digest', key }))
    },
    close() {
      closing ??= close()
      return closing
    },
  }
}
