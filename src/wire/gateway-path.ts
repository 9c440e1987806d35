import { pathOf } from './gateway-recognise.ts'

// Behind these words stand tokens, each of which is a right of its own.
const BEFORE_TOKENS = new Set(['uploads', 'downloads'])
/** Longer than any id, shorter than any token. */
const SEGMENT_LENGTH_MAX = 31

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment).toLowerCase()
  } catch {
    return segment.toLowerCase()
  }
}

/** The path of a request target as it may be logged: without query, and without anything that may be a token. */
export function loggedPath(url: string): string {
  const shown: string[] = []
  for (const segment of pathOf(url).split('/')) {
    if (shown.some((before) => BEFORE_TOKENS.has(decoded(before)))) {
      shown.push('…')
      break
    }
    shown.push(segment.length > SEGMENT_LENGTH_MAX ? '…' : segment)
  }
  return shown.join('/')
}
