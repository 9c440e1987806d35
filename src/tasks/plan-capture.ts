import type { CleaningReport, CleaningWish } from '../image/cleaning.ts'
import type { WantedConsistency } from '../image/consistency.ts'
import { isFault } from '../image/fault.ts'
import type { DiskId, MachineId, ProjectId, RegionId } from '../image/ids.ts'
import type { MachineDiskRecord } from '../image/machine.ts'
import { type CaptureSource, capturedMachine, chooseRequest, openSources } from './capture-sources.ts'
import { planCleaning } from './clean-disks.ts'
import { consistencyRefusal } from './consistency-refusal.ts'
import { domainOf } from './image-row.ts'
import { explainLostDisk, readPatiently } from './lost-disk.ts'
import type { TaskParts } from './parts.ts'
import { chargedBytes, quotaOf } from './quota.ts'
import type { StepContext, TaskDefinition } from './runner.ts'
import type { CapturePlan } from './store-jobs.ts'

export interface PlanInput {
  readonly machineId: MachineId
  readonly diskIds: readonly DiskId[]
  readonly wanted: WantedConsistency
  /** What the catalog had against it when it was asked for. */
  readonly blockers: readonly string[]
  /** Whether the asker may know how much room the region has: what others store shows in it (I10). */
  readonly tellsSpace: boolean
  readonly clean?: CleaningWish
}

/** What was learnt of the disks, or why nothing was. */
type Look =
  | {
      readonly sources: readonly CaptureSource[]
      readonly plan: CapturePlan
      /** The report, or why the disks cannot be cleaned. */
      readonly cleaning: CleaningReport | string | null
      readonly why?: never
    }
  | { readonly why: string }

/**
 * What a capture would do, on paper: it goes as far as one does that is given up before it writes. The guest is paused
 * for the moment of it and never frozen. What stands in the way is part of the report, not a failure.
 */
export function planCapture(parts: TaskParts): TaskDefinition<PlanInput> {
  const { catalog, host, jobs } = parts

  async function look(context: StepContext<PlanInput>, records: readonly MachineDiskRecord[]): Promise<Look> {
    const { id, row, input, signal } = context
    const regionId = row.regionId as RegionId
    const projectId = row.projectId as ProjectId
    const { machineId } = input
    // Before the disks are open: a running machine's moment costs room for as long as it is kept.
    if (input.clean !== undefined) await parts.cleaner.enter(id, signal)
    const machine = await capturedMachine(parts, machineId)
    const diskIds = records.map((record) => record.id)
    const chosen = await chooseRequest(parts, regionId, machine, diskIds, 'crash')
    const place = { regionId, projectId, isAllRead: context.checkpoint().isAllRead === true }
    let opened: Awaited<ReturnType<typeof openSources>>
    try {
      opened = await openSources(parts, place, { machineId, key: id, signal }, records, chosen)
    } catch (error) {
      if (isFault(error, 'conflict') || isFault(error, 'full')) return { why: error.message }
      throw error
    }
    const { wasRunning, sources } = opened
    const job = { regionId, domain: domainOf('custom', projectId), disks: sources.map(({ disk }) => disk) }
    const read = () => jobs.plan(job, context.progress, signal)
    try {
      const plan = await readPatiently(read, signal)
      return { sources, plan, cleaning: await lookAtCleaning(context, sources) }
    } catch (error) {
      const isCompared = sources.some(({ disk }) => disk.baseline !== undefined)
      if (!isCompared || !isFault(error, 'absent') || error.subject !== 'image') {
        throw await explainLostDisk(parts, machineId, wasRunning, error)
      }
    }
    // Somebody deleted the image that the disks were compared with.
    await context.save({ isAllRead: true })
    return look(context, records)
  }

  async function lookAtCleaning(context: StepContext<PlanInput>, sources: readonly CaptureSource[]) {
    const { clean } = context.input
    if (clean === undefined) return null
    const disks = sources.map(({ disk }) => disk)
    const plan = () => planCleaning(parts, context, disks, clean)
    return await readPatiently(plan, context.signal).catch((error: unknown) => {
      if (isFault(error, 'conflict')) return error.message
      throw error
    })
  }

  /** The machine is let go of whatever becomes of the cleaning; what failed is thrown then. */
  async function closeAll({ input, id }: Pick<StepContext<PlanInput>, 'input' | 'id'>) {
    try {
      if (input.clean !== undefined) await parts.cleaner.close(id)
    } finally {
      await host.closeExports(input.machineId, id, 'given-up')
    }
  }

  return {
    kind: 'plan-capture',
    gate: 'bytes',
    steps: [
      {
        name: 'look',
        async run(context) {
          const { input, row, signal } = context
          const regionId = row.regionId as RegionId
          const machine = await capturedMachine(parts, input.machineId)
          const records = machine.disks.filter((disk) => input.diskIds.includes(disk.id))
          // A machine that cannot be captured now is not paused for it, nor asked.
          const [first] = input.blockers
          const outlook =
            first === undefined
              ? await host.outlook(input.machineId, signal)
              : ({ consistency: 'crash', consistencyWhy: first } as const)
          const found = first === undefined ? await look(context, records) : { why: first }
          const plan = 'plan' in found ? found.plan : undefined
          const disks = records.map(({ id, index, sizeBytes, bus }, i) => {
            const source = 'sources' in found ? found.sources[i] : undefined
            return {
              ...{ id, index, sizeBytes, bus },
              readBytes: plan?.disks[i]?.readBytes ?? null,
              way: source?.way ?? 'all',
              why: source?.why ?? 'It was not looked at.',
            }
          })
          const logicalBytes = records.reduce((total, { sizeBytes }) => total + sizeBytes, 0)
          const sum = (of: 'readBytes' | 'dataBytes') =>
            plan?.disks.reduce((total, one) => total + one[of], 0) ?? null
          const dataBytes = sum('dataBytes')
          const newBytes = plan?.newBytes ?? null
          const { rows } = catalog
          const [quotaBytes, chargedNow] = [
            await quotaOf(rows, row.projectId),
            await chargedBytes(rows, row.projectId),
          ]
          const freeBytes = (await jobs.freeBytes(regionId)) ?? null
          const { consistency, consistencyWhy } = outlook
          const blockers = [...input.blockers]
          if (found.why !== undefined && found.why !== first) blockers.push(found.why)
          const refusal = first === undefined ? consistencyRefusal(input.wanted, outlook) : undefined
          if (refusal !== undefined) blockers.push(refusal.message)
          if (dataBytes !== null && quotaBytes !== null && chargedNow + dataBytes > quotaBytes) {
            blockers.push(
              `The project's quota of ${quotaBytes} bytes leaves no room for ${dataBytes} more: ` +
                `${chargedNow} are charged. Delete images or snapshots, or have the quota raised.`,
            )
          }
          if (newBytes !== null && freeBytes !== null && newBytes > freeBytes) {
            blockers.push(
              `The region's disk may not have room: ${newBytes} bytes are new to it before compression` +
                `${input.tellsSpace ? `, and ${freeBytes} are free` : ''}.`,
            )
          }
          const cleaning = 'cleaning' in found ? found.cleaning : null
          if (typeof cleaning === 'string') blockers.push(cleaning)
          const report = {
            ...{ disks, logicalBytes, readBytes: sum('readBytes'), dataBytes, newBytes },
            ...{ consistency, consistencyWhy, freeBytes: input.tellsSpace ? freeBytes : null },
            ...{ quotaBytes, chargedBytes: chargedNow, blockers },
            cleaning: typeof cleaning === 'string' ? null : cleaning,
          }
          await closeAll(context)
          await context.finish(report, async () => {})
        },
      },
    ],
    undo: closeAll,
  }
}
