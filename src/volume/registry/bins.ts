import { damaged } from '../refuse.ts'
import { BINS_OFFSET, type HiveBytes } from './cells.ts'

/** All cells of a hive, and which of them something refers to. */
export interface Bins {
  /** Something refers to the cell in use at `offset`. Throws refuse('damaged') where none begins, or one has been marked. */
  mark(offset: number): void
  unmark(offset: number): void
  /** Cells in use that are not marked become free; the content of free ones becomes zero. */
  sweep(): void
}

const HEADER_BYTES = 32

/** Goes over every bin and cell. Throws refuse('damaged') where they do not join without a gap. */
export function readBins({ bytes, binsBytes }: HiveBytes): Bins {
  // One byte for the eight bytes that are the least a cell can have: 0 is within one, else the states below.
  const states = new Uint8Array(binsBytes / 8)
  for (let bin = 0; bin < binsBytes; ) {
    const at = BINS_OFFSET + bin
    const sizeBytes = bytes.readUInt32LE(at + 8)
    const isSound =
      bytes.toString('latin1', at, at + 4) === 'hbin' &&
      bytes.readUInt32LE(at + 4) === bin &&
      sizeBytes > 0 &&
      sizeBytes % 4096 === 0 &&
      bin + sizeBytes <= binsBytes
    if (!isSound) throw damaged(`the registry bin at ${bin} is not one`)
    for (let offset = bin + HEADER_BYTES; offset < bin + sizeBytes; ) {
      const size = bytes.readInt32LE(BINS_OFFSET + offset)
      const cellBytes = Math.abs(size)
      if (cellBytes < 8 || cellBytes % 8 !== 0 || offset + cellBytes > bin + sizeBytes)
        throw damaged(`the registry cell at ${offset} has an odd size`)
      states[offset / 8] = size < 0 ? USED : FREE
      offset += cellBytes
    }
    bin += sizeBytes
  }
  return {
    mark(offset) {
      if (states[offset / 8] !== USED)
        throw damaged(`the registry cell at ${offset} is not there, or used twice`)
      states[offset / 8] = MARKED
    },
    unmark(offset) {
      states[offset / 8] = USED
    },
    sweep() {
      for (const [index, state] of states.entries()) {
        if (state !== USED && state !== FREE) continue
        const at = BINS_OFFSET + index * 8
        const cellBytes = Math.abs(bytes.readInt32LE(at))
        bytes.writeInt32LE(cellBytes, at)
        bytes.fill(0, at + 4, at + cellBytes)
      }
    },
  }
}

const FREE = 1
const USED = 2
const MARKED = 3
