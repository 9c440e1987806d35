import assert from 'node:assert/strict'
import type { Medium, Run } from './contract.ts'

/** True if the `lengthBytes` from `offset` on lie inside `sizeBytes`. */
export function isInside(sizeBytes: number, offset: number, lengthBytes: number): boolean {
  return (
    Number.isSafeInteger(offset) &&
    Number.isSafeInteger(lengthBytes) &&
    offset >= 0 &&
    lengthBytes >= 0 &&
    offset <= sizeBytes &&
    lengthBytes <= sizeBytes - offset
  )
}

/** A part of a medium as a medium of its own: its first byte is at 0. Asserts that the part lies inside. */
export function slice(medium: Medium, run: Run): Medium {
  assert(isInside(medium.sizeBytes, run.offset, run.lengthBytes), 'a slice lies inside its medium')
  const at = (offset: number, lengthBytes: number): number => {
    assert(isInside(run.lengthBytes, offset, lengthBytes), 'a range lies inside its slice')
    return run.offset + offset
  }
  const part: Medium = {
    sizeBytes: run.lengthBytes,
    read: async (offset, lengthBytes) => medium.read(at(offset, lengthBytes), lengthBytes),
    write: async (offset, bytes) => medium.write(at(offset, bytes.length), bytes),
    zero: async (offset, lengthBytes) => medium.zero(at(offset, lengthBytes), lengthBytes),
  }
  if (medium.dataRuns === undefined) return part
  return {
    ...part,
    dataRuns: (offset, lengthBytes) => dataRunsOf(medium, run.offset, at(offset, lengthBytes), lengthBytes),
  }
}

async function* dataRunsOf(
  medium: Medium,
  start: number,
  offset: number,
  lengthBytes: number,
): AsyncGenerator<Run> {
  assert(medium.dataRuns !== undefined)
  for await (const found of medium.dataRuns(offset, lengthBytes)) {
    yield { offset: found.offset - start, lengthBytes: found.lengthBytes }
  }
}
