import type { Readable } from 'node:stream'
import { refuse } from '../../volume/refuse.ts'

/** What the guest may say. */
export type Word =
  | { readonly is: 'up' | 'ready' | 'done' }
  /** From now on it changes that volume. */
  | { readonly is: 'at'; readonly volume: number }
  /** The exit code of e2fsck, or 64 for a disk that failed. */
  | { readonly is: 'checked'; readonly volume: number; readonly code: number }
  | { readonly is: 'failed'; readonly order: number; readonly reason: FailedReason }

const REASONS = ['full', 'gone', 'io', 'odd', 'unclean', 'cut'] as const
export type FailedReason = (typeof REASONS)[number]

const LINE_BYTES_MAX = 40
const LINES_MAX = 200

/**
 * The guest's words, one after the other. It may be in the hands of a hostile file system: whatever is not one of its
 * words, or comes too often, ends it with a refusal, and it is never asked again.
 */
export async function* readWords(stream: Readable): AsyncGenerator<Word, void> {
  let rest = ''
  let lineCount = 0
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    // In pieces, as a chunk is as long as the guest likes.
    rest += chunk.toString('latin1')
    for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
      lineCount += 1
      if (end > LINE_BYTES_MAX || lineCount > LINES_MAX) throw babble()
      yield parseWord(rest.slice(0, end))
      rest = rest.slice(end + 1)
    }
    if (rest.length > LINE_BYTES_MAX) throw babble()
  }
}

function parseWord(line: string): Word {
  if (line === 'up' || line === 'ready' || line === 'done') return { is: line }
  const [, volume, code] = /^checked (\d{1,3}) (\d{1,3})$/.exec(line) ?? []
  if (volume !== undefined) return { is: 'checked', volume: Number(volume), code: Number(code) }
  const [, at] = /^at (\d{1,3})$/.exec(line) ?? []
  if (at !== undefined) return { is: 'at', volume: Number(at) }
  const [, order, word] = /^failed (\d{1,6}) ([a-z]+)$/.exec(line) ?? []
  const reason = REASONS.find((one) => one === word)
  if (order !== undefined && reason !== undefined) return { is: 'failed', order: Number(order), reason }
  throw babble()
}

/** Also for a word that is none of those that can come now. */
export function babble() {
  return refuse(
    'damaged',
    'A file system upset the system that was to change it. Check it inside the machine, then try again.',
  )
}
