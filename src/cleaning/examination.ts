import assert from 'node:assert/strict'
import type { CleaningPlan, GuestVolume, PlannedEdit } from '../guest/contract.ts'
import type { DiskFinding } from '../guest/found-system.ts'
import type { CleaningWish } from '../image/cleaning.ts'
import { isFault } from '../image/fault.ts'
import type { FileSystem, FoundVolume, Medium, RefusalReason, Run, Scrubbed } from '../volume/contract.ts'
import { slice } from '../volume/slice.ts'
import { wipe } from '../volume/wipe.ts'
import { CheckMedium, unchanging } from './check-medium.ts'
import { detectDisk } from './detect-disk.ts'
import type {
  CheckAnswer,
  Look,
  Planned,
  RefusedVolume,
  ScrubAnswer,
  ScrubbedVolume,
  ScrubOrder,
  SeenVolume,
} from './examiner-words.ts'
import { isFileKind } from './kinds.ts'
import type { NbdMedium } from './nbd-medium.ts'
import type { OpenedVolume, Skills } from './skills.ts'

interface Place {
  readonly diskIndex: number
  readonly found: FoundVolume
}

/** A machine's disks under examination: what the examiner does, one call after the other. */
export class Examination {
  readonly #media: readonly NbdMedium[]
  readonly #skills: Skills
  readonly #onVolume: (volume: number) => void
  #volumeNow = -1
  #places: Place[] = []
  #gaps: (readonly Run[])[] = []
  #opened = new Map<number, OpenedVolume>()
  #plan: CleaningPlan | undefined
  #planned: readonly number[] = []
  #wish: CleaningWish | undefined

  /** `onVolume` is told whenever another volume is worked on. */
  constructor(media: readonly NbdMedium[], skills: Skills, onVolume: (volume: number) => void) {
    this.#media = media
    this.#skills = skills
    this.#onVolume = onVolume
  }

  /** The volume that is worked on, for whoever tells of a failure; -1 for none. */
  get volumeNow(): number {
    return this.#volumeNow
  }

  set volumeNow(volume: number) {
    if (volume === this.#volumeNow) return
    this.#volumeNow = volume
    this.#onVolume(volume)
  }

  async look(left: readonly number[]): Promise<Look> {
    const disks: Look['disks'][number][] = []
    for (const [diskIndex, medium] of this.#media.entries()) {
      const layout = await this.#skills.findVolumes(medium)
      this.#gaps.push(layout.gaps)
      const volumes: SeenVolume[] = []
      for (const found of layout.volumes) {
        this.#places.push({ diskIndex, found })
        const volume = this.#places.length - 1
        volumes.push({ ...found, ...(left.includes(volume) ? {} : await this.#seen(volume, found)) })
      }
      disks.push({ scheme: layout.scheme, volumes })
    }
    this.volumeNow = -1
    return { disks }
  }

  async #seen(volume: number, found: FoundVolume): Promise<Pick<SeenVolume, 'opened' | 'refusal'>> {
    const refused = await this.#refusalOf(volume, async () => {
      if (isFileKind(found.kind)) await this.#open(volume)
      if (found.kind === 'swap') await this.#skills.scrubSwap(unchanging(this.#part(volume)))
    })
    if (refused !== undefined) return { refusal: { reason: refused.reason, message: refused.message } }
    const opened = this.#opened.get(volume)
    if (opened === undefined) return {}
    return { opened: { label: opened.files.label, needsReplay: opened.needsReplay ?? false } }
  }

  /** Also after the appliance has played journals back. */
  async plan(volumes: readonly number[], wish: CleaningWish): Promise<Planned> {
    this.#forgetAppliance()
    this.#plan = undefined
    const refused: RefusedVolume[] = []
    const guests: GuestVolume[] = []
    for (const volume of volumes) {
      const refusal = await this.#refusalOf(volume, async () => {
        guests.push(await this.#guest(volume))
      })
      if (refusal !== undefined) refused.push(refusal)
    }
    this.volumeNow = -1
    if (refused.length > 0) return { refused }
    let plan: CleaningPlan | undefined
    const refusal = await this.#refusalOf(-1, async () => {
      plan = await this.#skills.makePlan(guests, wish)
    })
    if (refusal !== undefined) return { refused: [refusal] }
    assert(plan !== undefined)
    this.volumeNow = -1
    this.#plan = plan
    this.#planned = volumes
    this.#wish = wish
    const edits = plan.edits.filter((one) => !this.#isOurs(one))
    return { plan: { ...plan, edits }, refused }
  }

  /** What the appliance had to do is done. */
  async apply(): Promise<void> {
    assert(this.#plan !== undefined, 'there is a plan before it is carried out')
    this.#forgetAppliance()
    const ours = Map.groupBy(
      this.#plan.edits.filter((one) => this.#isOurs(one)),
      ({ volume }) => volume,
    )
    // Also without an edit: change journals and lost files go as well.
    for (const volume of this.#planned) {
      const edits = (ours.get(volume) ?? []).map(({ edit }) => edit)
      if (edits.length > 0 || this.#place(volume).found.kind !== 'ext4')
        await (await this.#open(volume)).apply(edits)
    }
    this.volumeNow = -1
    await this.#flush()
    this.#opened.clear()
  }

  async scrub(orders: readonly ScrubOrder[]): Promise<ScrubAnswer> {
    const answer = await this.#scrubOver(this.#media, orders)
    await this.#flush()
    return answer
  }

  /** The same again over the disks as they are now, comparing: nothing counts that we know of them from before. */
  async check(orders: readonly ScrubOrder[]): Promise<CheckAnswer> {
    this.#forget()
    const leftCount = await this.#countLeft()
    const media = this.#media.map((medium) => new CheckMedium(medium))
    await this.#scrubOver(media, orders)
    return { leftCount, differenceCount: media.reduce((sum, one) => sum + one.differenceCount, 0) }
  }

  /** What system is on that disk. The disk is let go of: those of a machine together are not held in memory. */
  async detect(disk: number): Promise<DiskFinding> {
    const medium = this.#media[disk]
    assert(medium !== undefined, 'a disk is one of those that it was given')
    try {
      return await detectDisk(medium, this.#skills)
    } finally {
      medium.forget()
    }
  }

  /** What the same plan would take away if it were made now. What it writes and blanks it would write and blank again. */
  async #countLeft(): Promise<number> {
    assert(this.#wish !== undefined, 'there is a plan before it is checked')
    const guests: GuestVolume[] = []
    for (const volume of this.#planned) guests.push(await this.#guest(volume))
    const { edits } = await this.#skills.makePlan(guests, this.#wish)
    this.volumeNow = -1
    // They are opened once more by the scrub, and take memory.
    this.#opened.clear()
    return edits.filter(({ edit }) => edit.is === 'remove' || edit.is === 'empty').length
  }

  /** A volume as a plan sees it: whatever is asked of its files, it is known whose they are. */
  async #guest(volume: number): Promise<GuestVolume> {
    const { diskIndex, found } = this.#place(volume)
    const { files } = await this.#open(volume)
    const told = tell(files, () => {
      this.volumeNow = volume
    })
    return { index: volume, diskIndex, partition: found.partition, files: told }
  }

  async #scrubOver(media: readonly Medium[], orders: readonly ScrubOrder[]): Promise<ScrubAnswer> {
    const volumes: ScrubbedVolume[] = []
    for (const { volume, how } of orders) {
      this.volumeNow = volume
      const { diskIndex, found } = this.#place(volume)
      const medium = media[diskIndex]
      assert(medium)
      const scrubbed = await this.#scrubOne(slice(medium, found), found, how)
      const places = [...scrubbed].map(([what, { count, bytes }]) => ({ what, count, bytes }))
      volumes.push({ volume, places })
    }
    this.volumeNow = -1
    let gapBytes = 0
    for (const [diskIndex, gaps] of this.#gaps.entries()) {
      const medium = media[diskIndex]
      assert(medium)
      for (const gap of gaps) gapBytes += await wipe(medium, [gap])
    }
    return { volumes, gapBytes }
  }

  async #scrubOne(part: Medium, { kind }: FoundVolume, how: ScrubOrder['how']): Promise<Scrubbed> {
    switch (how) {
      case 'files':
        assert(isFileKind(kind), 'only a volume with files is scrubbed as one')
        return await (await this.#skills.open(kind, part)).scrub()
      case 'swap':
        return await this.#skills.scrubSwap(part)
      case 'zero': {
        const bytes = await wipe(part, [{ offset: 0, lengthBytes: part.sizeBytes }])
        return new Map(bytes > 0 ? [['the whole partition', { count: 1, bytes }]] : [])
      }
      default:
        return how satisfies never
    }
  }

  /** Not the appliance's, which changes the names of ext4. */
  #isOurs({ volume, edit }: PlannedEdit): boolean {
    return this.#place(volume).found.kind !== 'ext4' || edit.is === 'blank'
  }

  async #open(volume: number): Promise<OpenedVolume> {
    this.volumeNow = volume
    const known = this.#opened.get(volume)
    if (known !== undefined) return known
    const { kind } = this.#place(volume).found
    assert(isFileKind(kind), 'only a volume with files is opened')
    const opened = await this.#skills.open(kind, this.#part(volume))
    this.#opened.set(volume, opened)
    return opened
  }

  /** What `work` on a volume, or on several in turn, is refused with. Other faults, and bugs, are thrown. */
  async #refusalOf(volume: number, work: () => Promise<void>): Promise<RefusedVolume | undefined> {
    this.volumeNow = volume
    try {
      await work()
      return undefined
    } catch (error) {
      if (!isFault(error, 'conflict') || error.subject !== 'volume' || this.volumeNow < 0) throw error
      return { volume: this.volumeNow, reason: error.reason as RefusalReason, message: error.message }
    }
  }

  #place(volume: number): Place {
    const place = this.#places[volume]
    assert(place !== undefined, 'a volume is one of those that were found')
    return place
  }

  #part(volume: number): Medium {
    const { diskIndex, found } = this.#place(volume)
    const medium = this.#media[diskIndex]
    assert(medium)
    return slice(medium, found)
  }

  async #flush(): Promise<void> {
    for (const medium of this.#media) await medium.flush()
  }

  /** Where there is ext4, there may have been an appliance: nothing that was read before counts. Nobody else changes disks. */
  #forgetAppliance(): void {
    if (this.#places.some(({ found }) => found.kind === 'ext4')) this.#forget()
  }

  #forget(): void {
    this.#opened.clear()
    for (const medium of this.#media) medium.forget()
  }
}

/** The same files, with a word before each call. */
function tell(files: FileSystem, onCall: () => void): FileSystem {
  const { type, label, uuid } = files
  const told =
    <Words extends unknown[], Value>(call: (...words: Words) => Promise<Value>) =>
    (...words: Words) => {
      onCall()
      return call.apply(files, words)
    }
  return {
    ...{ type, label, uuid },
    list: told(files.list),
    stat: told(files.stat),
    read: told(files.read),
    readLink: told(files.readLink),
    measure: told(files.measure),
  }
}
