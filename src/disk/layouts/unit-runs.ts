import assert from 'node:assert/strict'
import type { Extent } from '../contract.ts'

/** Units first … first + count - 1 hold data; `before` is how many that do lie before them. */
export interface UnitRun {
  readonly first: number
  readonly count: number
  readonly before: number
}

/**
 * Which fixed pieces of a disk hold data: what every format's tables are made of. Of n runs it needs 24n bytes and
 * answers in log n, so that nobody has to build a table to know one entry of it.
 */
export class UnitRuns {
  /** Units that hold data. */
  readonly count: number
  readonly #first: Float64Array
  readonly #end: Float64Array
  readonly #before: Float64Array

  private constructor(first: readonly number[], end: readonly number[]) {
    this.#first = Float64Array.from(first)
    this.#end = Float64Array.from(end)
    this.#before = new Float64Array(first.length)
    let count = 0
    for (const [i, from] of first.entries()) {
      this.#before[i] = count
      count += (end[i] as number) - from
    }
    this.count = count
  }

  /** The units that data of the extents touches; the extents rise. */
  static touched(extents: Iterable<Extent>, unitBytes: number): UnitRuns {
    const runs = new RunsBuilder()
    for (const { offset, lengthBytes, holds } of extents) {
      if (holds === 'zero' || lengthBytes === 0) continue
      runs.add(Math.floor(offset / unitBytes), Math.ceil((offset + lengthBytes) / unitBytes))
    }
    return new UnitRuns(runs.first, runs.end)
  }

  /** The same in units `factor` times as large. */
  coarser(factor: number): UnitRuns {
    const runs = new RunsBuilder()
    for (const { first, count } of this.runs()) {
      runs.add(Math.floor(first / factor), Math.ceil((first + count) / factor))
    }
    return new UnitRuns(runs.first, runs.end)
  }

  *runs(): Iterable<UnitRun> {
    for (let i = 0; i < this.#first.length; i++) yield this.#run(i)
  }

  /** The unit that is number `ordinal` of those that hold data. */
  unitAt(ordinal: number): number {
    assert(ordinal >= 0 && ordinal < this.count)
    const i = lastAtMost(this.#before, ordinal)
    return (this.#first[i] as number) + ordinal - (this.#before[i] as number)
  }

  /** Visits those of [from, to) that hold data, each with its number among all that do. */
  walk(from: number, to: number, visit: (unit: number, ordinal: number) => void): void {
    for (let i = Math.max(0, lastAtMost(this.#first, from)); i < this.#first.length; i++) {
      const { first, count, before } = this.#run(i)
      if (first >= to) return
      const end = Math.min(to, first + count)
      for (let unit = Math.max(first, from); unit < end; unit++) visit(unit, before + unit - first)
    }
  }

  #run(i: number): UnitRun {
    const first = this.#first[i] as number
    return { first, count: (this.#end[i] as number) - first, before: this.#before[i] as number }
  }
}

class RunsBuilder {
  readonly first: number[] = []
  readonly end: number[] = []

  /** Behind or at the end of the last; a unit that both touch is one. */
  add(first: number, end: number): void {
    const last = this.end.at(-1)
    if (last !== undefined && first <= last) this.end[this.end.length - 1] = Math.max(last, end)
    else {
      this.first.push(first)
      this.end.push(end)
    }
  }
}

/** The position of the last of rising values that is at most `value`; -1 if none is. */
export function lastAtMost(values: Float64Array, value: number): number {
  let low = 0
  let high = values.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((values[middle] as number) <= value) low = middle + 1
    else high = middle
  }
  return low - 1
}
