import { createHash } from 'node:crypto'

// Words planted in test disks. What has to be gone begins otherwise than what has to stay, so that even the first bytes
// of one, found where they have no business, tell which it was.

export const GONE_PREFIX = 'CNRY-'
export const KEPT_PREFIX = 'KEEP-'
export const TOKEN_LENGTH = 24
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'

/** Every token of a disk, by its text; the value says where it was planted ('name', 'resident', 'deleted' …). */
export class Tokens {
  readonly seed: number
  readonly gone = new Map<string, string>()
  readonly kept = new Map<string, string>()
  #count = 0

  constructor(seed: number) {
    this.seed = seed
  }

  /** A word of 24 characters that must not be found once the disk is clean. `kind`: up to 9 letters. */
  newGone(kind: string): string {
    return this.#add(GONE_PREFIX, kind, this.gone)
  }

  /** The same for one that must still be there. */
  newKept(kind: string): string {
    return this.#add(KEPT_PREFIX, kind, this.kept)
  }

  #add(prefix: string, kind: string, all: Map<string, string>): string {
    const head = `${prefix}${kind}-`
    const digest = createHash('sha256')
      .update(`${this.seed} ${this.#count++}`)
      .digest()
    let text = head
    for (const byte of digest.subarray(0, TOKEN_LENGTH - head.length)) text += LETTERS[byte % LETTERS.length]
    all.set(text, kind)
    return text
  }
}

/** At least `lengthBytes` bytes full of a word, in UTF-8 and in UTF-16 by turns, cut to the length. */
export function full(token: string, lengthBytes: number): Buffer {
  const line = Buffer.concat([Buffer.from(`${token} `), Buffer.from(`${token} `, 'utf16le')])
  return Buffer.alloc(lengthBytes, line)
}

/** Numbers in [0, 1) that a seed decides (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
