import assert from 'node:assert/strict'
import { Fault, isFault } from '../image/fault.ts'
import { type Digest, parseHash } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import type { ObjectName } from '../objects/names.ts'
import { type Canonical, encodeCanonical } from './canonical.ts'
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

/** The bytes of object `refs/<holder>/<version>`. Source: docs/format.md, "Ref". */
export function encodeRef({ holder, digests, label }: Ref): Buffer {
  const sorted = [...new Set(digests)].sort()
  const bytes = encodeCanonical({ digests: sorted, holder, label, version: 1 })
  assert(bytes.length <= REF_BYTES_MAX)
  return bytes
}

/** Throws Fault 'corrupt' unless the bytes are what `encodeRef` writes for this holder. */
export function parseRef(bytes: Buffer, name: ObjectName): Ref {
  try {
    const { digests, holder, label, version, ...rest } = JSON.parse(bytes.toString('utf8'))
    assert(version === 1 && holder === holderOf(name).holder && Object.keys(rest).length === 0)
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

/** Throws Fault 'corrupt' if the name is no ref's. */
export function holderOf(name: ObjectName): { readonly holder: string; readonly version: number } {
  const [, holder, version] = /^refs\/([a-z0-9-]{1,64})\/([1-9]\d{0,14})$/.exec(name) ?? []
  if (holder === undefined) throw new Fault('corrupt', `The object ${name} is no ref.`, { subject: 'store' })
  return { holder, version: Number(version) }
}

/** The name that the next version of the holder's ref takes. */
export function nextRefName(holder: string, current: ObjectName | undefined): ObjectName {
  return refName(holder, current === undefined ? 1 : holderOf(current).version + 1)
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
  const known = names.filter((name) => /^refs\/[a-z0-9-]{1,64}\/[1-9]\d{0,14}$/.test(name))
  for (const all of Map.groupBy(known, (name) => holderOf(name).holder).values()) {
    for (const name of all.sort((a, b) => holderOf(b).version - holderOf(a).version)) {
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
