import assert from 'node:assert/strict'
import type { ExportFormat, FileLayout, Segment } from './contract.ts'
import type { UnitRuns } from './unit-runs.ts'

/** Puts a file together from its start to its end. */
export class SegmentList {
  sizeBytes = 0
  readonly #segments: Segment[] = []

  /** Bytes that are few and ready. */
  addBytes(bytes: Uint8Array): void {
    this.#add({
      is: 'made',
      lengthBytes: bytes.length,
      make: (from, lengthBytes) => bytes.subarray(from, from + lengthBytes),
    })
  }

  /** Entries of `entryBytes` bytes; `fill` writes those of [first, end) that are not zero to `target`, in which `first` is at 0. */
  addTable(
    lengthBytes: number,
    entryBytes: number,
    fill: (target: Buffer, first: number, end: number) => void,
  ): void {
    this.#add({
      is: 'made',
      lengthBytes,
      make(from, wantedBytes) {
        const first = Math.floor(from / entryBytes)
        const end = Math.ceil((from + wantedBytes) / entryBytes)
        const table = Buffer.alloc((end - first) * entryBytes)
        fill(table, first, end)
        const at = from - first * entryBytes
        return table.subarray(at, at + wantedBytes)
      },
    })
  }

  addZeroes(lengthBytes: number): void {
    this.#add({ is: 'zero', lengthBytes })
  }

  /** Zeroes up to a multiple of `unitBytes`. */
  alignTo(unitBytes: number): void {
    this.addZeroes((unitBytes - (this.sizeBytes % unitBytes)) % unitBytes)
  }

  addDisk(diskOffset: number, lengthBytes: number): void {
    this.#add({ is: 'disk', lengthBytes, diskOffset })
  }

  /** The disk's units that hold data, whole, one behind the other; the last may reach behind the disk's end, with zeroes. */
  addUnits(units: UnitRuns, unitBytes: number, diskBytes: number): void {
    for (const { first, count } of units.runs()) {
      const offset = first * unitBytes
      const lengthBytes = Math.min(count * unitBytes, diskBytes - offset)
      this.addDisk(offset, lengthBytes)
      this.addZeroes(count * unitBytes - lengthBytes)
    }
  }

  layout(format: ExportFormat): FileLayout {
    return { format, sizeBytes: this.sizeBytes, segments: this.#segments }
  }

  #add(segment: Segment): void {
    assert(segment.lengthBytes >= 0 && Number.isSafeInteger(this.sizeBytes + segment.lengthBytes))
    if (segment.lengthBytes === 0) return
    this.#segments.push(segment)
    this.sizeBytes += segment.lengthBytes
  }
}
