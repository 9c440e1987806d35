import assert from 'node:assert/strict'
import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { GONE_PREFIX, KEPT_PREFIX, TOKEN_LENGTH, type Tokens } from './tokens.ts'

const WINDOW_BYTES = 1024 ** 2
/** Shorter than any token in UTF-16, and longer than what is needed to see one whole. */
const OVERLAP_BYTES = TOKEN_LENGTH * 2
const PAGE = Buffer.alloc(WINDOW_BYTES)

export interface Finding {
  readonly text: string
  /** What it is by the list of tokens; 'piece' for one that has its beginning but is not whole. */
  readonly kind: string
  readonly encoding: 'utf8' | 'utf16le'
  readonly offset: number
}

/** What a search sees of all those with one prefix. `findings`: the first ones. */
export interface Found {
  count: number
  readonly findings: Finding[]
  readonly tokens: Set<string>
}

export interface FoundTokens {
  readonly gone: Found
  readonly kept: Found
}

const FINDINGS_MAX = 20

const nothing = (): Found => ({ count: 0, findings: [], tokens: new Set() })

/** Looks through a stream of bytes for tokens in both encodings, wherever they are. */
export class TokenSearch {
  readonly found: FoundTokens = { gone: nothing(), kept: nothing() }
  readonly #tokens: Tokens
  #tail: Buffer = Buffer.alloc(0)
  #offset = 0

  constructor(tokens: Tokens) {
    this.#tokens = tokens
  }

  add(bytes: Buffer): void {
    // What is all zero is most of a disk, and is told in a moment.
    const isZero = bytes.length <= PAGE.length && bytes.equals(PAGE.subarray(0, bytes.length))
    if (isZero && this.#tail.length === 0) {
      this.#offset += bytes.length
      return
    }
    const window = Buffer.concat([this.#tail, bytes])
    const base = this.#offset - this.#tail.length
    // What begins in the last bytes is looked at with the next ones.
    const end = window.length - OVERLAP_BYTES
    this.#look(window, base, end)
    this.#tail = end > 0 ? Buffer.from(window.subarray(end)) : window
    this.#offset += bytes.length
  }

  end(): FoundTokens {
    this.#look(this.#tail, this.#offset - this.#tail.length, this.#tail.length)
    this.#tail = Buffer.alloc(0)
    return this.found
  }

  #look(window: Buffer, base: number, end: number): void {
    for (const encoding of ['utf8', 'utf16le'] as const) {
      for (const isGone of [true, false]) {
        const pattern = Buffer.from(isGone ? GONE_PREFIX : KEPT_PREFIX, encoding)
        const known = isGone ? this.#tokens.gone : this.#tokens.kept
        const found = isGone ? this.found.gone : this.found.kept
        const lengthBytes = TOKEN_LENGTH * (encoding === 'utf8' ? 1 : 2)
        for (let at = window.indexOf(pattern); at >= 0 && at < end; at = window.indexOf(pattern, at + 1)) {
          const text = window.toString(encoding, at, at + lengthBytes)
          const kind = known.get(text) ?? 'piece'
          found.count++
          // One of each is enough to tell where to look.
          const isNew = !found.tokens.has(text)
          found.tokens.add(text)
          if (isNew && found.findings.length < FINDINGS_MAX)
            found.findings.push({ text, kind, encoding, offset: base + at })
        }
      }
    }
  }
}

/** Everything that is in a file, holes and all. */
export async function searchFile(path: string, tokens: Tokens): Promise<FoundTokens> {
  const search = new TokenSearch(tokens)
  for await (const bytes of createReadStream(path, { highWaterMark: WINDOW_BYTES }))
    search.add(bytes as Buffer)
  return search.end()
}

/** Names and contents of the files beneath a folder, with the file where each of the first findings was. */
export async function searchFolder(
  folder: string,
  tokens: Tokens,
): Promise<readonly { readonly path: string; readonly found: FoundTokens }[]> {
  const all: { path: string; found: FoundTokens }[] = []
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    const names = new TokenSearch(tokens)
    names.add(Buffer.from(entry.name))
    const inName = names.end()
    if (inName.gone.count > 0) all.push({ path, found: inName })
    if (!entry.isFile()) continue
    const found = await searchFile(path, tokens)
    if (found.gone.count > 0 || found.kept.count > 0) all.push({ path, found })
  }
  return all
}

const HEX = /[^\x20-\x7e\u00a0-\uffff]/g

export const told = ({ count, findings }: Found): string =>
  `${count} found: ${findings
    .map(
      ({ text, kind, encoding, offset }) =>
        `${kind} ${JSON.stringify(text.replace(HEX, '·'))} (${encoding}) at 0x${offset.toString(16)}`,
    )
    .join('\n')}`

/** No token, nor a piece of one, that has to be gone is in the file. */
export async function assertGone(path: string, tokens: Tokens, what: string): Promise<FoundTokens> {
  const found = await searchFile(path, tokens)
  assert.equal(found.gone.count, 0, `${what} (seed ${tokens.seed}): ${told(found.gone)}`)
  return found
}
