import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { CleaningPlan } from '../guest/contract.ts'
import { getQemuVersion } from '../host/qemu/acceleration.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { Isolation } from '../isolation/isolation.ts'
import { APPLIANCE_VOLUME_COUNT_MAX, type Appliance, type StartAppliance } from './appliance-contract.ts'
import type { Cleaned, CleaningPhase, CleanRequest } from './contract.ts'
import { Examiner, type ExaminerLimits } from './examiner.ts'
import {
  parseCheckAnswer,
  parseLook,
  parseNothing,
  parsePlanned,
  parseScrubAnswer,
} from './examiner-answers.ts'
import type { CheckAnswer, ScrubAnswer } from './examiner-words.ts'
import type { OverlayDisk, Overlays } from './overlays.ts'
import { makeReport, ownVersion } from './report.ts'
import { watchRoom } from './room.ts'
import { Survey } from './survey.ts'
import { VolumeFault } from './volume-fault.ts'

const NAMED_SECRETS_MAX = 5
/** How often a cleaning with best effort begins again without one more volume. */
const AGAIN_COUNT_MAX = 8

export interface CleaningParts {
  readonly overlays: Overlays
  readonly startAppliance: StartAppliance
  readonly isolation: Isolation
  readonly entryPath: string
  readonly limits: ExaminerLimits
  /** For the layers together, in bytes. Fault 'full'. */
  readonly promiseRoom: () => Promise<number>
  readonly nowMs: () => number
}

/** One cleaning from its overlays to its report. On a failure it has ended its processes; files and exports are the caller's. */
export class OneCleaning {
  readonly #parts: CleaningParts
  readonly #request: CleanRequest
  readonly #onPhase: (phase: CleaningPhase) => void
  readonly #phases: Record<string, number> = {}
  /** With best effort: volumes that are left as they are, and why. */
  readonly #left = new Map<number, string>()
  /** What was refused when it was too late to leave it. */
  #late: { readonly volume: number; readonly why: string } | undefined
  #appliance: Appliance | undefined

  constructor(parts: CleaningParts, request: CleanRequest, onPhase: (phase: CleaningPhase) => void) {
    this.#parts = parts
    this.#request = request
    this.#onPhase = onPhase
  }

  /** With best effort, what is refused while it is changed is left as it is, and all else begins again from new layers. */
  async run(signal: AbortSignal): Promise<Cleaned> {
    for (;;) {
      try {
        return await this.#once(signal)
      } catch (error) {
        const late = this.#late
        this.#late = undefined
        const isLeavable = late !== undefined && !this.#left.has(late.volume)
        const isAgain = isLeavable && this.#request.wish.isBestEffort && this.#left.size < AGAIN_COUNT_MAX
        if (!isAgain || signal.aborted || !isFault(error, 'conflict')) throw error
        this.#left.set(late.volume, late.why)
        this.#appliance = undefined
        await this.#parts.overlays.close(this.#request.key)
      }
    }
  }

  async #once(signal: AbortSignal): Promise<Cleaned> {
    const { overlays } = this.#parts
    const { key, disks: sources } = this.#request
    const beganMs = performance.now()
    const disks = await overlays.open(key, sources, signal)
    const paths = disks.map(({ path }) => path)
    const watch = watchRoom(paths, await this.#parts.promiseRoom())
    const bounded = AbortSignal.any([signal, watch.signal])
    try {
      const cleaned = await this.#examined(disks, beganMs, bounded)
      bounded.throwIfAborted()
      if (this.#request.isDryRun) return cleaned
      return { ...cleaned, disks: await overlays.freeze(disks, sources, bounded) }
    } catch (error) {
      // What was killed for want of room says something else.
      if (bounded.aborted) throw bounded.reason
      // So does what could not be written: where next to nothing is free, this throws.
      if (isFault(error, 'unavailable')) await this.#parts.promiseRoom()
      throw error
    } finally {
      watch.end()
    }
  }

  async #examined(disks: readonly OverlayDisk[], beganMs: number, signal: AbortSignal): Promise<Cleaned> {
    const { overlays, limits, entryPath, isolation } = this.#parts
    const examiner = await Examiner.start({
      pidPath: join(overlays.folderOf(this.#request.key), 'examiner.pid'),
      ...{ disks, limits, entryPath, isolation, signal },
    })
    try {
      return await this.#steps(examiner, disks, beganMs, signal)
    } finally {
      await examiner.end()
      await this.#appliance?.end()
    }
  }

  async #steps(
    examiner: Examiner,
    disks: readonly OverlayDisk[],
    beganMs: number,
    signal: AbortSignal,
  ): Promise<Cleaned> {
    const { wish, isDryRun, disks: sources } = this.#request
    const survey = await this.#phase('look', async () => {
      const left = [...this.#left.keys()]
      const late = (volume: number, fault: Fault) => this.#tooLate(volume, fault)
      const look = await examiner.ask({ is: 'look', left }, parseLook, late)
      const found = new Survey(look, sources, wish, this.#left)
      found.refuseSeen()
      return found
    })
    refuseMany(survey)
    const volumes = survey.ext4()
    if (volumes.length > 0) await this.#phase('appliance', () => this.#start(survey, volumes, disks, signal))
    const plan = await this.#phase('plan', () => this.#plan(examiner, survey))
    let scrubbed: ScrubAnswer | undefined
    if (isDryRun) await this.#appliance?.end()
    else scrubbed = await this.#clean(examiner, survey, plan, volumes)
    const report = makeReport({
      ...{ wish, isDryRun, survey, plan, phases: this.#phases },
      ...(scrubbed && { scrubbed }),
      madeAtMs: this.#parts.nowMs(),
      durationMs: Math.round(performance.now() - beganMs),
      tools: {
        calotype: ownVersion(),
        qemu: (await getQemuVersion()).replace(/^QEMU emulator version /, ''),
        ...this.#appliance?.tools,
      },
    })
    return { disks: [], report }
  }

  async #start(
    survey: Survey,
    volumes: readonly number[],
    disks: readonly OverlayDisk[],
    signal: AbortSignal,
  ): Promise<void> {
    const places = volumes.map((volume) => survey.get(volume))
    // It gets no disk that it has nothing to do with.
    const used = [...new Set(places.map(({ diskIndex }) => diskIndex))]
    const folder = join(this.#parts.overlays.folderOf(this.#request.key), 'appliance')
    await mkdir(folder, { mode: 0o700 })
    const appliance = await this.#inAppliance(survey, volumes, () =>
      this.#parts.startAppliance({
        folder,
        disks: disks.filter((_disk, index) => used.includes(index)),
        volumes: places.map((place) => ({
          ...place,
          diskIndex: used.indexOf(place.diskIndex),
          mountPoint: '',
        })),
        signal,
      }),
    )
    this.#appliance = appliance
    this.#phases['appliance start'] = Math.round(appliance.bootMs)
    for (const [index, volume] of volumes.entries()) {
      const message = appliance.checks[index]
      if (message !== undefined && message !== 'clean') survey.refuse({ volume, reason: 'damaged', message })
    }
  }

  /** Whatever is refused now is left out, and what is left planned again; one volume fewer each time. */
  async #plan(examiner: Examiner, survey: Survey): Promise<CleaningPlan> {
    const { wish } = this.#request
    for (;;) {
      const volumes = survey.filed()
      const { plan, refused } = await examiner.ask(
        { is: 'plan', volumes, wish },
        parsePlanned,
        this.#placing(survey),
      )
      const refusals = refused.filter(({ volume }) => volumes.includes(volume))
      for (const { volume, message } of plan?.refusals ?? []) {
        if (volumes.includes(volume)) refusals.push({ volume, reason: 'damaged', message })
      }
      for (const refusal of refusals) survey.refuse(refusal)
      if (refusals.length > 0) continue
      if (plan === undefined) throw confused()
      if (wish.onSecrets === 'refuse' && plan.secrets.length > 0) throw secretsFound(plan)
      return plan
    }
  }

  async #clean(
    examiner: Examiner,
    survey: Survey,
    plan: CleaningPlan,
    volumes: readonly number[],
  ): Promise<ScrubAnswer> {
    const placed = this.#placing(survey)
    await this.#phase('edit', async () => {
      const orders = volumes.map((volume, index) => ({
        volume: index,
        edits: plan.edits.filter((one) => one.volume === volume).map(({ edit }) => edit),
      }))
      const wanted = orders.filter(({ edits }) => edits.length > 0)
      await this.#inAppliance(survey, volumes, async () => this.#appliance?.apply(wanted))
      await this.#appliance?.end()
      await examiner.ask({ is: 'apply' }, parseNothing, placed)
    })
    const orders = survey.scrubOrders()
    const scrubbed = await this.#phase('scrub', () =>
      examiner.ask({ is: 'scrub', orders }, parseScrubAnswer, placed),
    )
    const checked = await this.#phase('check', () =>
      examiner.ask({ is: 'check', orders }, parseCheckAnswer, placed),
    )
    refuseDifferences(checked)
    return scrubbed
  }

  /** Tells for people where a fault came from, and remembers it for `run`. */
  #placing(survey: Survey): (volume: number, fault: Fault) => Fault {
    return (volume, fault) => survey.placed(volume, this.#tooLate(volume, fault))
  }

  #tooLate(volume: number, fault: Fault): Fault {
    const isRefusal = fault.kind === 'conflict' && fault.subject === 'volume'
    if (isRefusal && volume >= 0) this.#late = { volume, why: fault.message }
    return fault
  }

  /** `volumes`: those of the appliance, by their places in the report. */
  async #inAppliance<Value>(
    survey: Survey,
    volumes: readonly number[],
    work: () => Promise<Value>,
  ): Promise<Value> {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof VolumeFault)) throw error
      throw this.#placing(survey)(volumes[error.volume] ?? -1, error)
    }
  }

  async #phase<Value>(phase: CleaningPhase, work: () => Promise<Value>): Promise<Value> {
    this.#onPhase(phase)
    const beganMs = performance.now()
    try {
      return await work()
    } finally {
      this.#phases[phase] = Math.round(performance.now() - beganMs)
    }
  }
}

function refuseMany(survey: Survey): void {
  const message = `The machine has more than ${APPLIANCE_VOLUME_COUNT_MAX} ext file systems, which is all that one cleaning takes. Clean it with fewer disks.`
  for (const volume of survey.ext4().slice(APPLIANCE_VOLUME_COUNT_MAX))
    survey.refuse({ volume, reason: 'too-large', message })
}

function refuseDifferences({ differenceCount, leftCount }: CheckAnswer): void {
  if (differenceCount === 0 && leftCount === 0) return
  const message = `The check found ${leftCount} things that were to be taken away, and ${differenceCount} places that were not made zero. Report this, and make the image without cleaning if it must be made.`
  throw new Fault('corrupt', message, { subject: 'volume', reason: 'check' })
}

function confused(): Fault {
  const message = 'The examiner of disks made no plan. Try again.'
  return new Fault('unavailable', message, { subject: 'volume', reason: 'examiner' })
}

function secretsFound({ secrets }: CleaningPlan): Fault {
  const named = secrets.slice(0, NAMED_SECRETS_MAX).map(({ path, kind }) => `${path} (${kind})`)
  const more = secrets.length - named.length
  const all = `${named.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
  const message = `Secrets were found in what is kept: ${all}. Take them away inside the machine, or have them reported alone, where the server's settings allow it.`
  return new Fault('conflict', message, { subject: 'volume', reason: 'secrets' })
}
