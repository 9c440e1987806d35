import { type CleaningWish, describePlace, type ReportedVolume } from '../image/cleaning.ts'
import { Fault } from '../image/fault.ts'
import type { RefusalReason } from '../volume/contract.ts'
import { refuse } from '../volume/refuse.ts'
import type { CleanSource } from './contract.ts'
import type { Look, RefusedVolume, ScrubOrder, SeenVolume } from './examiner-words.ts'
import { isFileKind } from './kinds.ts'

/** What to do about a kind of content that cannot be cleaned, as the end of "Disk 0 is X, which cannot be cleaned." */
const REMEDIES: Readonly<Record<RefusalReason, string>> = {
  hibernated: 'Start the machine, shut it down, then try again.',
  'fast-startup': 'Start the machine, shut it down, then try again.',
  dirty: 'Check it inside the machine, then try again.',
  encrypted: 'Decrypt it inside the machine, then try again.',
  unsupported: 'Take it off the machine, then try again.',
  damaged: 'Check it inside the machine, then try again.',
  full: 'Make room in it, then try again.',
  'too-large': 'Take it off the machine, then try again.',
}
const BEST_EFFORT = 'Or choose best effort (--best-effort), which leaves it as it is.'

interface SurveyedVolume {
  readonly diskIndex: number
  readonly seen: SeenVolume
  /** Set when it is left as it is. */
  leftWhy?: string
}

/** All volumes of a machine's disks, in the order of the report, and what becomes of each. */
export class Survey {
  readonly #volumes: SurveyedVolume[] = []
  readonly #wish: CleaningWish

  /** `left`: why volumes are to be left as they are. Throws Fault 'unavailable' for volumes that do not lie on their disks: no examiner in its senses finds those. */
  constructor(
    look: Look,
    sources: readonly CleanSource[],
    wish: CleaningWish,
    left: ReadonlyMap<number, string> = new Map(),
  ) {
    this.#wish = wish
    for (const [diskIndex, { sizeBytes }] of sources.entries()) {
      for (const seen of look.disks[diskIndex]?.volumes ?? []) {
        if (seen.offset + seen.lengthBytes > sizeBytes) {
          const message = 'The examiner of disks found a volume beyond its disk. Try again.'
          throw new Fault('unavailable', message, { subject: 'volume', reason: 'examiner' })
        }
        const leftWhy = left.get(this.#volumes.length)
        this.#volumes.push({ diskIndex, seen, ...(leftWhy !== undefined && { leftWhy }) })
      }
    }
  }

  /** Refuses what `look` has already shown not to be cleanable. */
  refuseSeen(): void {
    for (const [volume, { seen, leftWhy }] of this.#volumes.entries()) {
      if (leftWhy !== undefined) continue
      const { kind, title, reason = 'unsupported', refusal } = seen
      if (refusal !== undefined) this.refuse({ volume, ...refusal })
      const message = `It is ${title}, which cannot be cleaned. ${REMEDIES[reason]}`
      if (kind === 'other') this.refuse({ volume, reason, message })
    }
  }

  /** With best effort the volume is left as it is, else this throws. */
  refuse({ volume, reason, message }: RefusedVolume): void {
    const one = this.#volumes[volume]
    if (one === undefined || !this.#wish.isBestEffort)
      throw refuse(reason, `${this.#where(volume)}${message} ${BEST_EFFORT}`)
    one.leftWhy = message
  }

  /** The same words for a fault that came while a volume was worked on: it has to be thrown. */
  readonly placed = (volume: number, fault: Fault): Fault => {
    if (fault.subject !== 'volume' || this.#volumes[volume] === undefined) return fault
    const hint = fault.kind === 'conflict' && !this.#wish.isBestEffort ? ` ${BEST_EFFORT}` : ''
    return new Fault(fault.kind, `${this.#where(volume)}${fault.message}${hint}`, {
      subject: fault.subject,
      ...(fault.reason !== undefined && { reason: fault.reason }),
      cause: fault.cause,
    })
  }

  /** Volumes whose files are looked at and cleaned. */
  filed(): number[] {
    return this.#indexes(({ seen, leftWhy }) => isFileKind(seen.kind) && leftWhy === undefined)
  }

  ext4(): number[] {
    return this.#indexes(({ seen, leftWhy }) => seen.kind === 'ext4' && leftWhy === undefined)
  }

  get(volume: number): { readonly diskIndex: number; readonly offset: number; readonly lengthBytes: number } {
    const one = this.#volumes[volume]
    if (one === undefined) {
      const message = 'The examiner of disks told of a volume that is not there. Try again.'
      throw new Fault('unavailable', message, { subject: 'volume', reason: 'examiner' })
    }
    return { diskIndex: one.diskIndex, offset: one.seen.offset, lengthBytes: one.seen.lengthBytes }
  }

  scrubOrders(): ScrubOrder[] {
    const isSwapped = this.#wish.operations.includes('swap')
    const orders: ScrubOrder[] = []
    for (const [volume, { seen, leftWhy }] of this.#volumes.entries()) {
      if (leftWhy !== undefined) continue
      if (isFileKind(seen.kind)) orders.push({ volume, how: 'files' })
      if (seen.kind === 'swap' && isSwapped) orders.push({ volume, how: 'swap' })
      if (seen.kind === 'empty') orders.push({ volume, how: 'zero' })
    }
    return orders
  }

  warnings(): string[] {
    return [...this.#volumes.entries()].flatMap(([volume, { leftWhy }]) =>
      leftWhy === undefined ? [] : [`${this.#where(volume)}Left as it is. ${leftWhy}`],
    )
  }

  reported(scrubbed: ReadonlyMap<number, ReportedVolume['scrubbed']>): ReportedVolume[] {
    return this.#volumes.map(({ diskIndex, seen, leftWhy }, volume) => ({
      diskIndex,
      partition: seen.partition,
      title: seen.title,
      label: seen.opened?.label ?? '',
      sizeBytes: seen.lengthBytes,
      ...this.#outcome(seen, leftWhy),
      scrubbed: scrubbed.get(volume) ?? [],
    }))
  }

  #outcome({ kind }: SeenVolume, leftWhy: string | undefined): Pick<ReportedVolume, 'outcome' | 'why'> {
    if (leftWhy !== undefined) return { outcome: 'left', why: leftWhy }
    if (kind === 'boot-code') return { outcome: 'kept', why: 'It holds the code that starts the machine.' }
    if (kind === 'swap' && !this.#wish.operations.includes('swap'))
      return { outcome: 'left', why: "Cleaning 'swap' was not chosen." }
    return { outcome: 'cleaned', why: '' }
  }

  #indexes(isMeant: (one: SurveyedVolume) => boolean): number[] {
    return [...this.#volumes.keys()].filter((index) => {
      const one = this.#volumes[index]
      return one !== undefined && isMeant(one)
    })
  }

  /** 'Disk 0, partition 2 (NTFS): '; '' for no volume. */
  #where(volume: number): string {
    const one = this.#volumes[volume]
    if (one === undefined) return ''
    const { partition, title } = one.seen
    return `${describePlace({ diskIndex: one.diskIndex, partition })} (${title}): `
  }
}
