import assert from 'node:assert/strict'
import { Fault, isFault } from '../image/fault.ts'
import { type Digest, parseHash } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import type { ObjectName } from '../objects/names.ts'
import { type Canonical, encodeCanonical } from './canonical.ts'
import { sha256 } from './hashes.ts'
import { refName } from './names.ts'

/** Facts of the holder by which its row in the catalog can be written again. A JSON object, its numbers whole. */
export type RefLabel = { readonly [key: string]: Canonical }

/** Somebody who needs images, and what is known of him. */
export interface RefInput {
  /** An id of the catalog, or of a task: 1 to 64 of a-z, 0-9 and -. */
  readonly holder: string
  readonly label: RefLabel
}

export interface Ref extends RefInput {
  readonly digests: readonly Digest[]
}

const REF_BYTES_MAX = 1024 * 1024

/** The bytes of object `refs/<holder>/<version>-<mark>`. Source: docs/format.md, "Ref". */
export function encodeRef({ holder, digests, label }: Ref): Buffer {
  const sorted = [...new Set(digests)].sort()
  const bytes = encodeCanonical({ digests: sorted, holder, label, version: 1 })
  assert(bytes.length <= REF_BYTES_MAX)
  return bytes
}

/** Throws Fault 'corrupt' unless the bytes are what `encodeRef` writes for the holder and mark in the name. */
export function parseRef(bytes: Buffer, name: ObjectName): Ref {
  try {
    const { digests, holder, label, version, ...rest } = JSON.parse(bytes.toString('utf8'))
    const told = holderOf(name)
    assert(
      version === 1 &&
        holder === told.holder &&
        markOf(bytes) === told.mark &&
        Object.keys(rest).length === 0,
    )
    assert(Array.isArray(digests) && typeof label === 'object' && label !== null && !Array.isArray(label))
    const ref: Ref = { holder, label, digests: digests.map((one) => parseHash('digest', String(one))) }
    assert(encodeRef(ref).equals(bytes), 'the bytes are canonical')
    return ref
  } catch (cause) {
    throw new Fault('corrupt', `The ref ${name} is damaged or of an unknown version.`, {
      subject: 'store',
      cause,
    })
  }
}

const NAME = /^refs\/([a-z0-9-]{1,64})\/([1-9]\d{0,14})-([0-9a-f]{16})$/

/** Throws Fault 'corrupt' if the name is no ref's. */
export function holderOf(name: ObjectName) {
  const [, holder, version, mark] = NAME.exec(name) ?? []
  if (holder === undefined) throw new Fault('corrupt', `The object ${name} is no ref.`, { subject: 'store' })
  return { holder, version: Number(version), mark }
}

/** Two writers of one version, one of them before a crash, must not meet under one name. */
function markOf(bytes: Buffer): string {
  return sha256(bytes).slice(0, 16)
}

/** The name of a ref that replaces `current`, and its bytes. */
export function nextRef(
  ref: Ref,
  current: ObjectName | undefined,
): { readonly name: ObjectName; readonly bytes: Buffer } {
  const bytes = encodeRef(ref)
  const version = current === undefined ? 1 : holderOf(current).version + 1
  return { name: refName(ref.holder, version, markOf(bytes)), bytes }
}

/** Throws Fault 'absent' or 'corrupt'. */
export async function readRef(
  objects: Pick<ObjectStore, 'size' | 'get'>,
  name: ObjectName,
  signal?: AbortSignal,
): Promise<Ref> {
  const sizeBytes = await objects.size(name, signal)
  if (sizeBytes === undefined) throw new Fault('absent', `There is no ref ${name}.`, { subject: 'store' })
  return parseRef(await objects.get(name, 0, Math.min(sizeBytes, REF_BYTES_MAX), signal), name)
}

/**
 * The newest ref of each holder, from the objects alone; one that is damaged is told with its name, and the holder's
 * version before it, if there is one, in its place.
 */
export async function* readRefs(
  objects: Pick<ObjectStore, 'size' | 'get' | 'list'>,
  signal?: AbortSignal,
): AsyncGenerator<
  { readonly name: ObjectName; readonly ref: Ref } | { readonly name: ObjectName; readonly message: string }
> {
  const names = await Array.fromAsync(objects.list('refs/', signal))
  const known = names.filter((name) => NAME.test(name)).map((name) => ({ name, ...holderOf(name) }))
  for (const all of Map.groupBy(known, ({ holder }) => holder).values()) {
    for (const { name } of all.sort((a, b) => b.version - a.version)) {
      try {
        yield { name, ref: await readRef(objects, name, signal) }
        break
      } catch (error) {
        // A list may still show what is gone.
        if (isFault(error, 'absent')) continue
        if (!isFault(error, 'corrupt')) throw error
        yield { name, message: error.message }
      }
    }
  }
}
