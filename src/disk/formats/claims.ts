import { refuseFile } from './contract.ts'

/** 32 MiB of marks. */
const UNITS_MAX = 2 ** 28

/**
 * Which of equal pieces of a file are in use by something already. One bit a piece, so that a table of any length can
 * be checked for two entries that lead to the same bytes.
 */
export class Claims {
  readonly #unitCount: number
  readonly #marks: Uint8Array

  /** Refuses ('tables') a file of more pieces than the marks may take memory for. */
  constructor(unitCount: number) {
    if (unitCount > UNITS_MAX) {
      throw refuseFile(
        'tables',
        'The file is too large for the small pieces it is kept in. Write it anew with: qemu-img convert -O qcow2.',
      )
    }
    this.#unitCount = unitCount
    this.#marks = new Uint8Array(Math.ceil(unitCount / 8))
  }

  /** False, and nothing done, where one of the `count` units from `first` on is taken or does not exist. */
  claim(first: number, count = 1): boolean {
    if (first < 0 || first + count > this.#unitCount) return false
    for (let unit = first; unit < first + count; unit++) if (this.#isTaken(unit)) return false
    for (let unit = first; unit < first + count; unit++) {
      this.#marks[unit >>> 3] = (this.#marks[unit >>> 3] ?? 0) | (1 << (unit & 7))
    }
    return true
  }

  #isTaken(unit: number): boolean {
    return ((this.#marks[unit >>> 3] ?? 0) & (1 << (unit & 7))) !== 0
  }
}
