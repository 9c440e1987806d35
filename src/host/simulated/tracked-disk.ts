import type { DiskId } from '../../image/ids.ts'
import type { MachineDisk } from '../contract.ts'
import { PAGE_BYTES, type SparseDisk } from './sparse-disk.ts'

export interface StatusRun {
  readonly offset: number
  readonly lengthBytes: number
  readonly status: number
}

/** A disk at one moment, and what was written between an earlier one and this. */
export interface Moment {
  readonly content: SparseDisk
  readonly changes: ReadonlySet<number> | undefined
  readonly changesWhy: string
}

/** A capture, and the pages written since its moment; not all of them where `lostWhy` says so. */
interface Mark {
  readonly key: string
  readonly written: Set<number>
  lostWhy: string
}

/** A machine's disk with the memory of what was written since a capture: a dirty bitmap without QEMU. */
export class TrackedDisk {
  #spec: MachineDisk
  #content: SparseDisk
  #replacedCount = 0
  /** The last capture that was taken. It gathers on while another is open, so giving that one up loses nothing. */
  #taken: Mark | undefined
  #open: Mark | undefined

  constructor(spec: MachineDisk, content: SparseDisk) {
    this.#spec = spec
    this.#content = content
  }

  get replacedCount(): number {
    return this.#replacedCount
  }

  get id(): DiskId {
    return this.#spec.id
  }

  get spec(): MachineDisk {
    return this.#spec
  }

  get content(): SparseDisk {
    return this.#content
  }

  /** A capture by `key` begins now; `since` is the key of the one that its caller has. */
  begin(key: string, since: string | undefined): Moment {
    this.#open = { key, written: new Set(), lostWhy: '' }
    this.#content.watch(this.#open.written)
    const content = this.#content.snapshot()
    if (since === undefined) return { content, changes: undefined, changesWhy: '' }
    const unknownWhy = `The host remembers no capture '${since}' of this disk.`
    const changesWhy = this.#taken?.key === since ? this.#taken.lostWhy : unknownWhy
    const changes = changesWhy === '' && this.#taken !== undefined ? new Set(this.#taken.written) : undefined
    return { content, changes, changesWhy }
  }

  /** May be called for nothing: a disk that the capture did not ask for has none of this key open. */
  end(key: string, outcome: 'taken' | 'given-up'): void {
    const open = this.#open
    if (open?.key !== key) return
    this.#open = undefined
    const dropped = outcome === 'taken' ? this.#taken : open
    if (dropped !== undefined) this.#content.unwatch(dropped.written)
    if (outcome === 'taken') this.#taken = open
  }

  /** From now on nobody can tell what was written since any capture before. */
  lose(why: string): void {
    for (const mark of [this.#taken, this.#open]) if (mark !== undefined) mark.lostWhy = why
  }

  replace(spec: MachineDisk, content: SparseDisk): void {
    this.#spec = spec
    this.#content = content
    this.#replacedCount++
    this.lose('The disk was given other content since that capture.')
  }
}

/** What a meta context answers whose status is told page by page. */
export function statusesOf(
  statusOfPage: (index: number) => number,
  offset: number,
  lengthBytes: number,
): StatusRun[] {
  const runs: { offset: number; lengthBytes: number; status: number }[] = []
  for (let at = offset; at < offset + lengthBytes; ) {
    const index = Math.floor(at / PAGE_BYTES)
    const next = Math.min(offset + lengthBytes, (index + 1) * PAGE_BYTES)
    const status = statusOfPage(index)
    const last = runs.at(-1)
    if (last?.status === status) last.lengthBytes += next - at
    else runs.push({ offset: at, lengthBytes: next - at, status })
    at = next
  }
  return runs
}
