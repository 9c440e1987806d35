import assert from 'node:assert/strict'
import type { Disk, Extent, StatusExtent } from './contract.ts'

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

/** As `appendExtent`, of a meta context's answer. */
export function appendStatus(
  statuses: StatusExtent[],
  lengthBytes: number,
  status: number,
  start: number,
): void {
  if (lengthBytes === 0) return
  const last = statuses.at(-1)
  if (last === undefined) statuses.push({ offset: start, lengthBytes, status })
  else if (last.status === status) {
    statuses[statuses.length - 1] = { ...last, lengthBytes: last.lengthBytes + lengthBytes }
  } else statuses.push({ offset: last.offset + last.lengthBytes, lengthBytes, status })
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
    ...(disk.contexts === undefined ? {} : { contexts: disk.contexts }),
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

/** The runs whose status is from 1 to `most`, neighbours merged: what a context does not call unchanged. */
export function changedOf(statuses: readonly StatusExtent[], most: number): Extent[] {
  const changed: { offset: number; lengthBytes: number; holds: 'data' }[] = []
  for (const { offset, lengthBytes, status } of statuses) {
    if (status < 1 || status > most) continue
    const last = changed.at(-1)
    if (last !== undefined && last.offset + last.lengthBytes === offset) last.lengthBytes += lengthBytes
    else changed.push({ offset, lengthBytes, holds: 'data' })
  }
  return changed
}

/** The runs of data in both of two lists, each rising and without overlaps: what either leaves out is left out. */
export function intersect(first: readonly Extent[], second: readonly Extent[]): Extent[] {
  const theirs = second.filter((extent) => extent.holds === 'data')
  const both: Extent[] = []
  let index = 0
  for (const { offset, lengthBytes, holds } of first) {
    if (holds !== 'data') continue
    const end = offset + lengthBytes
    for (; index < theirs.length; index++) {
      const other = theirs[index]
      assert(other !== undefined)
      const otherEnd = other.offset + other.lengthBytes
      const from = Math.max(offset, other.offset)
      const to = Math.min(end, otherEnd)
      if (from < to) both.push({ offset: from, lengthBytes: to - from, holds: 'data' })
      // The other one may reach into the next run too.
      if (otherEnd > end) break
    }
  }
  return both
}

/** The runs of data in `first` without what `second`, rising and without overlaps as it is, covers. */
export function without(first: readonly Extent[], second: readonly Extent[]): Extent[] {
  const left: Extent[] = []
  let index = 0
  for (const { offset, lengthBytes, holds } of first) {
    if (holds !== 'data') continue
    const end = offset + lengthBytes
    let at = offset
    for (; index < second.length; index++) {
      const other = second[index]
      assert(other !== undefined)
      const otherEnd = other.offset + other.lengthBytes
      if (otherEnd <= at) continue
      if (other.offset >= end) break
      if (other.offset > at) left.push({ offset: at, lengthBytes: other.offset - at, holds })
      at = Math.min(end, otherEnd)
      // It may reach into the next run too.
      if (otherEnd > end) break
    }
    if (at < end) left.push({ offset: at, lengthBytes: end - at, holds })
  }
  return left
}
