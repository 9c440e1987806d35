import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, stat, unlink, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { ObjectName } from '../objects/names.ts'
import { bareSource } from './paced.ts'
import type { ReadOnlyRegion } from './source.ts'

export interface PackCacheOptions {
  /** Of caches alone; made if need be. */
  readonly folder: string
  /** Where the bytes are from: what has another one is never answered. Part of names of files, 96 characters at most. */
  readonly source: string
  /** Of the whole folder, whatever the sources. */
  readonly bytesMax: number
  /** How often who fetches shows that he lives, and who waits looks. */
  readonly beatMs?: number
  /** Who did not show himself for so long is taken for dead. */
  readonly deadMs?: number
  readonly pollMs?: number
}

/** Each looks what has to go with the first that it writes, and again whenever it has written this share of all. */
const LOOK_SHARE = 1 / 16
/** So much is left, so that not every write has to look. */
const LEFT_SHARE = 7 / 8
const PART = '.part'

/**
 * Ranges of objects that copies have read, for other copies of the same image: any number of threads share a folder. One
 * fetches, the others wait for its file. What it answers is checked by who asks, as any other bytes are, and forgotten by
 * `forget` when it was wrong. A cache that cannot be written to is none, and no failure.
 */
export class PackCache {
  readonly #folder: string
  readonly #source: string
  readonly #bytesMax: number
  readonly #beatMs: number
  readonly #deadMs: number
  readonly #pollMs: number
  #ready: Promise<unknown> | undefined
  #writtenBytes = Number.POSITIVE_INFINITY

  constructor({ folder, source, bytesMax, beatMs = 2000, deadMs = 15_000, pollMs = 20 }: PackCacheOptions) {
    assert(/^[a-z0-9-]{1,96}$/.test(source))
    this.#folder = folder
    this.#source = source
    this.#bytesMax = bytesMax
    this.#beatMs = beatMs
    this.#deadMs = deadMs
    this.#pollMs = pollMs
  }

  /** The range, from here or by `fetch`, whose failure is this call's and nobody else's. */
  async get(
    name: ObjectName,
    offset: number,
    lengthBytes: number,
    fetch: () => Promise<Buffer>,
    signal?: AbortSignal,
  ): Promise<Buffer> {
    this.#ready ??= mkdir(this.#folder, { recursive: true, mode: 0o700 }).catch(() => {})
    await this.#ready
    const path = this.#pathOf(name, offset, lengthBytes)
    for (;;) {
      signal?.throwIfAborted()
      const kept = await this.#read(path, lengthBytes)
      if (kept !== undefined) return kept
      const part = await open(`${path}${PART}`, 'wx', 0o600).catch(codeOf)
      if (typeof part !== 'string') {
        await part.close()
        // Who was at it may have ended between the two looks.
        const fresh = await this.#read(path, lengthBytes)
        if (fresh === undefined) return this.#fetch(path, fetch)
        await unlink(`${path}${PART}`).catch(() => {})
        return fresh
      }
      if (part !== 'EEXIST') return fetch()
      await delay(this.#pollMs, undefined, signal === undefined ? {} : { signal }).catch(() => {})
      await this.#buryDead(`${path}${PART}`)
    }
  }

  /** The range is fetched anew by whoever asks next. */
  async forget(name: ObjectName, offset: number, lengthBytes: number): Promise<void> {
    await unlink(this.#pathOf(name, offset, lengthBytes)).catch(() => {})
  }

  #pathOf(name: ObjectName, offset: number, lengthBytes: number): string {
    return join(this.#folder, `${this.#source}.${name.replaceAll('/', '-')}-${offset}-${lengthBytes}`)
  }

  async #read(path: string, lengthBytes: number): Promise<Buffer | undefined> {
    const bytes = await readFile(path).catch(() => undefined)
    if (bytes?.length !== lengthBytes) return undefined
    const now = new Date()
    await utimes(path, now, now).catch(() => {})
    return bytes
  }

  async #fetch(path: string, fetch: () => Promise<Buffer>): Promise<Buffer> {
    const part = `${path}${PART}`
    const beat = setInterval(() => {
      const now = new Date()
      utimes(part, now, now).catch(() => {})
    }, this.#beatMs)
    try {
      const bytes = await fetch()
      await this.#keep(path, bytes).catch(() => {})
      return bytes
    } finally {
      clearInterval(beat)
      await unlink(part).catch(() => {})
    }
  }

  /** Under a name of its own first: should somebody have taken us for dead, there are two of us. */
  async #keep(path: string, bytes: Buffer): Promise<void> {
    if (bytes.length > this.#bytesMax) return
    const own = `${path}.${randomBytes(6).toString('hex')}`
    try {
      const file = await open(own, 'wx', 0o600)
      try {
        await file.writeFile(bytes)
      } finally {
        await file.close()
      }
      await rename(own, path)
    } catch (error) {
      await unlink(own).catch(() => {})
      throw error
    }
    this.#writtenBytes += bytes.length
    if (this.#writtenBytes < this.#bytesMax * LOOK_SHARE) return
    this.#writtenBytes = 0
    await this.#makeRoom()
  }

  /** Those that were not read for the longest time go. */
  async #makeRoom(): Promise<void> {
    const files: { path: string; sizeBytes: number; readMs: number }[] = []
    for (const name of await readdir(this.#folder)) {
      const path = join(this.#folder, name)
      const found = name.endsWith(PART) ? undefined : await stat(path).catch(() => undefined)
      if (found !== undefined) files.push({ path, sizeBytes: found.size, readMs: found.mtimeMs })
    }
    let bytes = files.reduce((sum, file) => sum + file.sizeBytes, 0)
    // Other threads write as well until they look.
    if (bytes <= this.#bytesMax * LEFT_SHARE) return
    for (const { path, sizeBytes } of files.sort((a, b) => a.readMs - b.readMs)) {
      if (bytes <= this.#bytesMax * (LEFT_SHARE - LOOK_SHARE)) return
      await unlink(path).catch(() => {})
      bytes -= sizeBytes
    }
  }

  /** Lets somebody else fetch what a thread that ended was at. */
  async #buryDead(part: string): Promise<void> {
    const found = await stat(part).catch(() => undefined)
    if (found === undefined || Date.now() - found.mtimeMs < this.#deadMs) return
    await unlink(part).catch(() => {})
  }
}

/** The source, whose packs and pages are read through the cache. Their names are those of their bytes, wherever they are. */
export function cachedSource(source: ReadOnlyRegion, cache: PackCache): ReadOnlyRegion {
  const { objects } = source
  return {
    ...bareSource(source),
    objects: {
      traits: objects.traits,
      size: (name, signal) => objects.size(name, signal),
      get(name, offset, lengthBytes, signal) {
        const fetch = () => objects.get(name, offset, lengthBytes, signal)
        if (!/^(packs|pages)\//.test(name)) return fetch()
        return cache.get(name, offset, lengthBytes, fetch, signal)
      },
    },
    forget: (name, offset, lengthBytes) => cache.forget(name, offset, lengthBytes),
  }
}

const codeOf = (error: NodeJS.ErrnoException): string => error.code ?? ''
