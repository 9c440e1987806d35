import { setTimeout as delay } from 'node:timers/promises'
import { type CleaningSummary, type CleaningWish, summaryOf } from '../image/cleaning.ts'
import type { WantedConsistency } from '../image/consistency.ts'
import { isFault } from '../image/fault.ts'
import type { Digest, DiskId, ImageId, MachineId, ProjectId, RegionId } from '../image/ids.ts'
import {
  type CaptureOutput,
  chargeMore,
  failAll,
  keepBaselines,
  listed,
  type MadeOutput,
  type MomentFacts,
  readBytesOf,
  referable,
  setMade,
  summary,
} from './capture-outputs.ts'
import {
  type CaptureRequest,
  type CaptureSource,
  capturedMachine,
  chooseRequest,
  openSources,
} from './capture-sources.ts'
import { cleanDisks } from './clean-disks.ts'
import { domainOf, failAndCleanUp, osOf } from './image-row.ts'
import { explainLostDisk, readPatiently } from './lost-disk.ts'
import type { TaskParts } from './parts.ts'
import { reserve } from './quota.ts'
import type { StepContext, TaskDefinition } from './runner.ts'
import type { RefInput, WriteJob } from './store-jobs.ts'

export interface CaptureInput {
  readonly machineId: MachineId
  readonly wanted: WantedConsistency
  /** All of one moment; of no disk twice. */
  readonly outputs: readonly CaptureOutput[]
  /** What the image is made without; then there are no other outputs. */
  readonly clean?: CleaningWish
}

/** As tasks were written before there were snapshots. */
interface ImageInput {
  readonly imageId: ImageId
  readonly machineId: MachineId
  readonly diskIds: readonly DiskId[]
}

/** What the step that reads leaves for the next. */
interface Taken {
  /** Of what the task was to make, what nobody had deleted. */
  readonly outputs: readonly CaptureOutput[]
  readonly made: readonly MadeOutput[]
  readonly facts: MomentFacts
  readonly cleaning?: CleaningSummary
  readonly disks: readonly {
    readonly id: DiskId
    readonly way: CaptureSource['way']
    readonly why: string
    readonly readBytes: number
  }[]
}

function inputOf(input: CaptureInput | ImageInput): CaptureInput {
  if ('outputs' in input) return input
  const { imageId: id, machineId, diskIds } = input
  return { machineId, wanted: 'best', outputs: [{ is: 'image', id, diskIds }] }
}

export const captureImage = (parts: TaskParts) => captureDisks(parts, 'capture-image')
export const createSnapshot = (parts: TaskParts) => captureDisks(parts, 'create-snapshot')

/**
 * From a machine's disks at one moment to an image and snapshots: the host exports them read-only, the store takes in what
 * may have changed, one commit makes them available. A stopped machine cannot be started meanwhile.
 */
function captureDisks(
  parts: TaskParts,
  kind: 'capture-image' | 'create-snapshot',
): TaskDefinition<CaptureInput | ImageInput> {
  const { catalog, host, jobs, cleaner, sign, clock } = parts
  type Context = StepContext<CaptureInput | ImageInput>

  /** The disks at the moment of the capture; asked again, the same ones as long as the host keeps that moment. */
  async function openDisks(context: Context) {
    const { id, row, signal } = context
    const { machineId, outputs, wanted, clean } = inputOf(context.input)
    // Before the disks are open: a running machine's moment costs room for as long as it is kept.
    if (clean !== undefined) await cleaner.enter(id, signal)
    const machine = await capturedMachine(parts, machineId)
    const regionId = row.regionId as RegionId
    const projectId = row.projectId as ProjectId
    const wantedIds = new Set(outputs.flatMap(({ diskIds }) => diskIds))
    const records = machine.disks.filter((disk) => wantedIds.has(disk.id))
    let chosen = context.checkpoint().chosen as CaptureRequest | undefined
    if (chosen === undefined) {
      const diskIds = records.map((record) => record.id)
      chosen = await chooseRequest(parts, regionId, machine, diskIds, wanted)
      await context.save({ chosen })
    }
    const isAllRead = context.checkpoint().isAllRead === true
    const place = { regionId, projectId, isAllRead }
    const capture = { machineId, key: id, signal }
    const { wasRunning, exports, sources } = await openSources(parts, place, capture, records, chosen)
    return { machine, wasRunning, exports, sources, regionId, projectId }
  }

  /** A disk that ends or fails is told in the words of the machine behind it. */
  async function readDisks<Result>(
    context: Context,
    read: (open: Opened) => Promise<Result>,
  ): Promise<Result> {
    const open = await openDisks(context)
    const { machineId } = inputOf(context.input)
    try {
      return await readPatiently(() => read(open), context.signal)
    } catch (error) {
      const isCompared = open.sources.some(({ disk }) => disk.baseline !== undefined)
      if (!isCompared || !isFault(error, 'absent') || error.subject !== 'image') {
        throw await explainLostDisk(parts, machineId, open.wasRunning, error)
      }
    }
    // Somebody deleted the image that the disks were compared with.
    await context.save({ isAllRead: true })
    return await readDisks(context, read)
  }
  type Opened = Awaited<ReturnType<typeof openDisks>>

  /** The disks as they are to be taken in. What was opened for that, `closeCleaned` closes. */
  async function cleaned(context: Context, sources: readonly CaptureSource[]) {
    const { clean } = inputOf(context.input)
    const disks = sources.map((source) => source.disk)
    if (clean === undefined) return { disks, report: undefined }
    const { disks: overlaid, report } = await cleanDisks(parts, context, disks, clean)
    await context.phase('read')
    return { disks: overlaid, report: sign(report) }
  }
  const closeCleaned = async ({ id, input }: Pick<Context, 'id' | 'input'>) => {
    if (inputOf(input).clean !== undefined) await cleaner.close(id)
  }

  const positionsOf = (output: CaptureOutput, sources: readonly CaptureSource[]) =>
    output.diskIds.map((id) => sources.findIndex(({ record }) => record.id === id))

  return {
    kind,
    gate: 'bytes',
    steps: [
      {
        name: 'reserve',
        async run(context) {
          const { isReserved, taken } = context.checkpoint()
          if (isReserved === true || taken !== undefined) return
          const { outputs } = inputOf(context.input)
          const wanted = await readDisks(context, async ({ sources, regionId, projectId }) => {
            const disks = sources.map((source) => source.disk)
            const domain = domainOf('custom', projectId)
            const plans = await jobs.measure({ regionId, domain, disks }, context.signal)
            return outputs.map((output) =>
              positionsOf(output, sources).reduce((sum, at) => sum + (plans[at]?.dataBytes ?? 0), 0),
            )
          })
          await catalog.transaction(async (rows) => {
            for (const output of await listed(rows, outputs))
              await reserve(rows, output, wanted[outputs.indexOf(output)] ?? 0)
          })
          await context.save({ isReserved: true })
        },
      },
      {
        name: 'read',
        async run(context) {
          const { id, signal } = context
          // A process that ended before it had closed them may have left them to us.
          if (context.checkpoint().taken !== undefined) return await closeCleaned(context)
          const taken = await readDisks(context, async (open): Promise<Taken> => {
            const { machine, exports, regionId, projectId } = open
            const { os: found } = exports
            const { outputs, refs } = await referable(catalog.rows, inputOf(context.input).outputs, found)
            const isTaken = ({ record }: CaptureSource) =>
              outputs.some(({ diskIds }) => diskIds.some((diskId) => diskId === record.id))
            const sources = open.sources.filter(isTaken)
            const { type, name } = found ?? { type: machine.osType, name: machine.osName }
            const { disks: asTaken, report } = await cleaned(context, sources)
            const images = outputs.map((output, i): WriteJob['images'][number] => {
              const disks = positionsOf(output, sources)
              const system = sources[disks[0] ?? 0]
              return {
                disks,
                config: machine.config,
                os: osOf(type, name),
                parent: system?.record.base?.digest as Digest | undefined,
                ref: refs[i] as RefInput,
                ...(report === undefined ? {} : { report }),
              }
            })
            const job: WriteJob = {
              ...{ regionId, sessionId: id, domain: domainOf('custom', projectId) },
              disks: asTaken,
              images,
              consistency: exports.consistency,
            }
            const written = await jobs.write(job, context.progress, signal)
            const made = written.map((one, i) => ({ ...one, parent: job.images[i]?.parent }))
            await chargeMore(catalog, outputs, made)
            const { consistency, consistencyWhy, pausedMs, frozenMs, os } = exports
            return {
              outputs,
              made,
              facts: { consistency, consistencyWhy, pausedMs, frozenMs, ...(os === undefined ? {} : { os }) },
              ...(report === undefined ? {} : { cleaning: summaryOf(report.report) }),
              disks: sources.map(({ record, way, why }) => {
                return { id: record.id, way, why, readBytes: readBytesOf(record.id, outputs, made) }
              }),
            }
          })
          await context.save({ taken })
          await closeCleaned(context)
        },
      },
      {
        name: 'release',
        // Before the image is there for all: whoever waits for it may want the machine next.
        async run({ input, id, signal, save }) {
          // The region does not have what was cleaned, so the next capture cannot be compared with it.
          const outcome = inputOf(input).clean === undefined ? 'taken' : 'given-up'
          const close = () => host.closeExports(input.machineId, id, outcome)
          await save({ isReleased: await tryAgain(close, signal) })
        },
      },
      {
        name: 'commit',
        async run(context) {
          const { taken, isReleased } = context.checkpoint() as { taken: Taken; isReleased: boolean }
          const { outputs, made, facts, disks, cleaning } = taken
          const { os, ...known } = facts
          const there = await listed(catalog.rows, outputs)
          const counted = made.filter((_made, i) => there.includes(outputs[i] as CaptureOutput))
          const output = { ...summary(counted), ...known, disks, isReleased, ...(cleaning && { cleaning }) }
          await context.finish(output, async (rows) => {
            const still = new Set(await listed(rows, outputs))
            for (const [i, one] of outputs.entries()) {
              const written = made[i]
              if (written === undefined) throw new Error('every output was written')
              // What was deleted meanwhile, whoever deleted it lets go of once we are through.
              if (still.has(one)) await setMade(rows, one, written, { ...facts, cleaning }, clock())
            }
            if (cleaning === undefined)
              await keepBaselines(rows, context, context.input.machineId, outputs, made, clock())
          })
        },
      },
    ],
    async undo({ input, id, row }, reason) {
      const { machineId, outputs } = inputOf(input)
      const regionId = row.regionId as RegionId
      // A host that does not answer keeps neither the store from its room nor the user from the reason.
      await failAndCleanUp(failAll(catalog.rows, outputs, reason, clock()), [
        // What reads the exports first; the machine is let go of whatever becomes of that.
        closeCleaned({ id, input }).finally(() => host.closeExports(machineId, id, 'given-up')),
        jobs.abort(regionId, id),
        // The store may have committed before the failure; a collection then takes what was made.
        ...outputs.map((output) => jobs.release(regionId, output.id)),
      ])
    },
  }
}

const RELEASE_TRIES = 12
const RELEASE_WAIT_MS_MAX = 10_000

/**
 * False if a host that does not answer had its tries, for more than a minute: the image is whole, and what is left on the
 * machine whoever needs its disks next lets go of (`closeForgotten`). Throws what is not 'unavailable', or the signal's
 * reason.
 */
async function tryAgain(work: () => Promise<void>, signal: AbortSignal): Promise<boolean> {
  let waitMs = 250
  for (let tries = 0; tries < RELEASE_TRIES; tries++) {
    try {
      await work()
      return true
    } catch (error) {
      if (!isFault(error, 'unavailable')) throw error
      await delay(waitMs, undefined, { signal })
      waitMs = Math.min(2 * waitMs, RELEASE_WAIT_MS_MAX)
    }
  }
  return false
}
