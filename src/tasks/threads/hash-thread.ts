import { createHash, type Hash } from 'node:crypto'
import { answer } from './talk.ts'

/** One hash at a time: 'begin' forgets the one before. Bytes in shared memory do not change before the digest's answer. */
export type HashAsk =
  | { readonly is: 'begin' }
  | { readonly is: 'update'; readonly bytes: Uint8Array }
  | { readonly is: 'digest' }

let hash: Hash = createHash('sha256')

// It loads next to nothing, so that it is there before the first pack has been read.
answer<HashAsk>(async (ask) => {
  switch (ask.is) {
    case 'begin':
      hash = createHash('sha256')
      return
    case 'update':
      hash.update(ask.bytes)
      return
    case 'digest':
      return hash.digest('hex')
    default:
      ask satisfies never
  }
})
