import assert from 'node:assert/strict'
import type { FileLayout } from './contract.ts'
import { lastAtMost } from './unit-runs.ts'

/** A run of a file as it is asked for. `make` gives exactly `lengthBytes` bytes, never to be written to. */
export type Cut =
  | { readonly is: 'made'; readonly lengthBytes: number; make(): Uint8Array }
  | { readonly is: 'disk'; readonly lengthBytes: number; readonly diskOffset: number }
  | { readonly is: 'zero'; readonly lengthBytes: number }

/** Where the segments of a layout begin, worked out when it is first cut. */
const starts = new WeakMap<FileLayout, Float64Array>()

/** What [offset, offset + lengthBytes) of the file is, in runs that follow each other. Finds its place in log n. */
export function* cut(layout: FileLayout, offset: number, lengthBytes: number): Iterable<Cut> {
  const end = offset + lengthBytes
  assert(offset >= 0 && lengthBytes >= 0 && end <= layout.sizeBytes, 'a run lies inside its file')
  const begins = startsOf(layout)
  let index = lastAtMost(begins, offset)
  for (let at = offset; at < end; index++) {
    const segment = layout.segments[index]
    assert(segment !== undefined)
    const from = at - (begins[index] as number)
    const length = Math.min(segment.lengthBytes - from, end - at)
    switch (segment.is) {
      case 'made':
        yield { is: 'made', lengthBytes: length, make: () => segment.make(from, length) }
        break
      case 'disk':
        yield { is: 'disk', lengthBytes: length, diskOffset: segment.diskOffset + from }
        break
      case 'zero':
        yield { is: 'zero', lengthBytes: length }
        break
      default:
        segment satisfies never
    }
    at += length
  }
}

function startsOf(layout: FileLayout): Float64Array {
  let found = starts.get(layout)
  if (found === undefined) {
    found = new Float64Array(layout.segments.length)
    let at = 0
    for (const [i, { lengthBytes }] of layout.segments.entries()) {
      found[i] = at
      at += lengthBytes
    }
    assert.equal(at, layout.sizeBytes)
    starts.set(layout, found)
  }
  return found
}
