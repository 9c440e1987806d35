import type { Medium, Run, Scrubbed } from './contract.ts'

const PIECE_BYTES = 1024 * 1024
const ZEROES = Buffer.alloc(PIECE_BYTES)

export function isZeroBytes(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const piece = bytes.subarray(at, at + PIECE_BYTES)
    if (!piece.equals(ZEROES.subarray(0, piece.length))) return false
  }
  return true
}

/** True if all of a range reads as zeroes. Reads on to the first byte that does not, and no holes. */
export async function isZeroRange(medium: Medium, run: Run): Promise<boolean> {
  for await (const piece of pieces(medium, run)) {
    if (!isZeroBytes(await medium.read(piece.offset, piece.lengthBytes))) return false
  }
  return true
}

/**
 * Makes runs zero that come in rising order without overlap, and says how many bytes it had to: only what held anything
 * counts. Runs that lie close together are read in one go.
 */
export async function wipe(medium: Medium, runs: Iterable<Run>): Promise<number> {
  let wipedBytes = 0
  let group: Run[] = []
  const flush = async (): Promise<void> => {
    wipedBytes += await wipeGroup(medium, group)
    group = []
  }
  for (const run of runs) {
    if (run.lengthBytes === 0) continue
    const first = group[0]
    if (first !== undefined && run.offset + run.lengthBytes - first.offset > PIECE_BYTES) await flush()
    if (run.lengthBytes < PIECE_BYTES) {
      group.push(run)
      continue
    }
    for await (const piece of pieces(medium, run)) wipedBytes += await wipeGroup(medium, [piece])
  }
  await flush()
  return wipedBytes
}

/** The runs span at most one piece. */
async function wipeGroup(medium: Medium, group: readonly Run[]): Promise<number> {
  const first = group[0]
  const last = group.at(-1)
  if (first === undefined || last === undefined) return 0
  const bytes = await medium.read(first.offset, last.offset + last.lengthBytes - first.offset)
  let wipedBytes = 0
  for (const run of group) {
    const start = run.offset - first.offset
    if (isZeroBytes(bytes.subarray(start, start + run.lengthBytes))) continue
    await medium.zero(run.offset, run.lengthBytes)
    wipedBytes += run.lengthBytes
  }
  return wipedBytes
}

async function* pieces(medium: Medium, run: Run): AsyncGenerator<Run> {
  const found = medium.dataRuns?.(run.offset, run.lengthBytes) ?? [run]
  for await (const { offset, lengthBytes } of found) {
    for (let at = 0; at < lengthBytes; at += PIECE_BYTES) {
      yield { offset: offset + at, lengthBytes: Math.min(PIECE_BYTES, lengthBytes - at) }
    }
  }
}

/** Adds up what scrubbing made zero. */
export class Tally {
  readonly #sums = new Map<string, { count: number; bytes: number }>()

  /** Nothing is added for zero bytes: a second scrub's tally is empty. */
  add(what: string, bytes: number, count = 1): void {
    if (bytes === 0) return
    const sum = this.#sums.get(what) ?? { count: 0, bytes: 0 }
    this.#sums.set(what, { count: sum.count + count, bytes: sum.bytes + bytes })
  }

  get scrubbed(): Scrubbed {
    return this.#sums
  }
}
