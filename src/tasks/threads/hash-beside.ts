import type { RunningHash } from '../../store/pull-options.ts'
import type { HashAsk } from './hash-thread.ts'
import { TalkingThread } from './talk.ts'

/** A thread that hashes. To be closed by whoever made it. */
export class HashBeside {
  readonly #thread = new TalkingThread(new URL('./hash-thread.ts', import.meta.url))

  /** Once the digest of the one before is asked for: the thread answers in the order of asking. One without a digest is forgotten. */
  begin(): RunningHash {
    const ask = <Result>(what: HashAsk) => this.#thread.ask<Result>(what)
    // A thread that failed says so again when it is asked for the digest.
    const tell = (what: HashAsk) => void ask(what).catch(() => {})
    tell({ is: 'begin' })
    return {
      update(piece) {
        tell({ is: 'update', bytes: sharedOrOwn(piece) })
        return undefined
      },
      digest: () => ask<string>({ is: 'digest' }),
    }
  }

  close(): Promise<void> {
    return this.#thread.close()
  }
}

/** Of memory that is not shared all would be copied for each piece. */
function sharedOrOwn(piece: Uint8Array): Uint8Array {
  return piece.buffer instanceof SharedArrayBuffer ? piece : Uint8Array.from(piece)
}
