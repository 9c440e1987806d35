import assert from 'node:assert/strict'
import type { Disk, Extent } from './contract.ts'

/** Adds a run behind the last, merged with it when both hold the same. An empty run adds nothing. */
export function appendExtent(
  extents: Extent[],
  lengthBytes: number,
  holds: Extent['holds'],
  start = 0,
): void {
  if (lengthBytes === 0) return
  const last = extents.at(-1)
  if (last === undefined) extents.push({ offset: start, lengthBytes, holds })
  else if (last.holds === holds) {
    extents[extents.length - 1] = { ...last, lengthBytes: last.lengthBytes + lengthBytes }
  } else extents.push({ offset: last.offset + last.lengthBytes, lengthBytes, holds })
}

/** Every method of a Disk asserts this first: to ask outside of the disk is a bug of the caller. */
export function assertInside(sizeBytes: number, offset: number, lengthBytes: number): void {
  assert(Number.isSafeInteger(offset) && offset >= 0, 'an offset is a whole number')
  assert(Number.isSafeInteger(lengthBytes) && lengthBytes >= 0, 'a length is a whole number')
  assert(offset + lengthBytes <= sizeBytes, 'a run lies inside its disk')
}

/** `disk` for somebody who may not close it: its `close` does nothing. */
export function lendDisk(disk: Disk): Disk {
  return {
    sizeBytes: disk.sizeBytes,
    read: (offset, lengthBytes, signal) => disk.read(offset, lengthBytes, signal),
    ...(disk.pieces === undefined ? {} : { pieces: disk.pieces.bind(disk) }),
    extents: (offset, lengthBytes, signal) => disk.extents(offset, lengthBytes, signal),
    close: async () => {},
  }
}

/** The runs of data in either of two answers for the same stretch: what both call zero is left out. */
export function dataOfEither(first: readonly Extent[], second: readonly Extent[]): Extent[] {
  const runs = [...first, ...second]
    .filter((extent) => extent.holds === 'data')
    .sort((a, b) => a.offset - b.offset)
  const merged: { offset: number; lengthBytes: number; holds: 'data' }[] = []
  for (const { offset, lengthBytes } of runs) {
    const last = merged.at(-1)
    const lastEnd = last === undefined ? -1 : last.offset + last.lengthBytes
    if (last === undefined || offset > lastEnd) merged.push({ offset, lengthBytes, holds: 'data' })
    else last.lengthBytes = Math.max(lastEnd, offset + lengthBytes) - last.offset
  }
  return merged
}
