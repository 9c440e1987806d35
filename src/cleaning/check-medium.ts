import type { Medium, Run } from '../volume/contract.ts'

const PIECE_BYTES = 1024 * 1024
const ZEROES = Buffer.alloc(PIECE_BYTES)

/**
 * A disk that is compared with what is to be written to it, and stays as it is: what finds nothing to do finds no
 * difference. `differenceCount` tells how many of its changes would have changed anything.
 */
export class CheckMedium implements Medium {
  readonly sizeBytes: number
  differenceCount = 0
  readonly #medium: Medium

  constructor(medium: Medium) {
    this.sizeBytes = medium.sizeBytes
    this.#medium = medium
  }

  read(offset: number, lengthBytes: number): Promise<Buffer> {
    return this.#medium.read(offset, lengthBytes)
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES)
      if ((await this.#medium.read(offset + at, piece.length)).equals(piece)) continue
      this.differenceCount++
      return
    }
  }

  async zero(offset: number, lengthBytes: number): Promise<number> {
    for await (const run of this.dataRuns(offset, lengthBytes)) {
      const end = run.offset + run.lengthBytes
      for (let at = run.offset; at < end; at += PIECE_BYTES) {
        const pieceBytes = Math.min(PIECE_BYTES, end - at)
        const bytes = await this.#medium.read(at, pieceBytes)
        if (ZEROES.subarray(0, pieceBytes).equals(bytes)) continue
        this.differenceCount++
        return end - at
      }
    }
    return 0
  }

  async *dataRuns(offset: number, lengthBytes: number): AsyncGenerator<Run> {
    if (this.#medium.dataRuns === undefined) yield { offset, lengthBytes }
    else yield* this.#medium.dataRuns(offset, lengthBytes)
  }
}

/** A disk whose changes are forgotten: for asking a function that would change it whether it would refuse. */
export function unchanging(medium: Medium): Medium {
  return {
    sizeBytes: medium.sizeBytes,
    read: (offset, lengthBytes) => medium.read(offset, lengthBytes),
    write: async () => {},
    zero: async () => 0,
    ...(medium.dataRuns && { dataRuns: medium.dataRuns.bind(medium) }),
  }
}
