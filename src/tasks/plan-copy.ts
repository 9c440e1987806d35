import type { CopyPlan, CopySource, CopyTargetPlan, CopyWay } from '../image/copy.ts'
import type { Digest, RegionId } from '../image/ids.ts'
import { estimateCopies, type Look, lookAtTargets } from './copy-estimate.ts'
import type { TaskParts } from './parts.ts'
import { chargedBytes, quotaOf } from './quota.ts'
import { hasRoom } from './room.ts'
import type { TaskDefinition } from './runner.ts'

export interface PlanCopyInput {
  readonly source: CopySource
  /** Null for an image that is not there yet: then nothing can be looked at. */
  readonly digest: Digest | null
  /** What each copy will hold and be charged for. */
  readonly dataBytes: number
  readonly targets: readonly {
    readonly regionId: RegionId
    readonly way: CopyWay
    /** What the catalog had against it when it was asked for. */
    readonly blockers: readonly string[]
  }[]
  readonly bytesPerSecond?: number
  readonly withinMs?: number
  /** Whether the asker may know how much room the regions have: what others store shows in it (I10). */
  readonly tellsSpace: boolean
}

/**
 * What copies would do, on paper: maps and indexes are read, and nothing is written. What stands in the way is part of the
 * plan, not a failure: the stores' own faults, keys that differ among them, too.
 */
export function planCopy(parts: TaskParts): TaskDefinition<PlanCopyInput> {
  const { catalog, jobs, copies } = parts
  const { rows } = catalog

  /** Of the project, so of all targets alike. */
  async function quotaBlockers(projectId: string, { targets, dataBytes }: PlanCopyInput): Promise<string[]> {
    const quotaBytes = await quotaOf(rows, projectId)
    const charged = await chargedBytes(rows, projectId)
    const wanted = dataBytes * targets.length
    if (quotaBytes === null || charged + wanted <= quotaBytes) return []
    return [
      `The project's quota of ${quotaBytes} bytes leaves no room for ${wanted} more: ${charged} are charged. ` +
        'Delete images or snapshots, or have the quota raised.',
    ]
  }

  async function roomBlockers(
    regionId: RegionId,
    { moveBytes }: { readonly moveBytes: number | null },
    freeBytes: number | null,
    tellsSpace: boolean,
  ): Promise<string[]> {
    if (moveBytes === null || (await hasRoom(parts, regionId, moveBytes))) return []
    const free = tellsSpace && freeBytes !== null ? `, and ${freeBytes} are free` : ''
    return [
      `Region ${regionId} has no room for ${moveBytes} bytes beside what is on its way there${free}. ` +
        'Delete what is not needed, or give its disk more room.',
    ]
  }

  return {
    kind: 'plan-copy',
    gate: 'none',
    steps: [
      {
        name: 'look',
        async run(context) {
          const { input, row, signal } = context
          const { source, digest, targets, dataBytes, tellsSpace, withinMs, bytesPerSecond } = input
          const looks: readonly Look[] =
            digest === null ? [] : await lookAtTargets(jobs, { source, digest }, targets, signal)
          const moved = targets.map(({ regionId, way }, i) => {
            const look = looks[i]
            const isKnown = look !== undefined && look.why === undefined
            const bytes = isKnown ? look : { moveBytes: null, savedBytes: null }
            const { moveBytes, savedBytes } = bytes
            return { regionId, way, moveBytes, savedBytes, why: look?.why }
          })
          const { each, allMs } = await estimateCopies(rows, copies, source, moved, bytesPerSecond)
          const ofAll = await quotaBlockers(row.projectId, input)
          if (withinMs !== undefined && allMs !== null && allMs > withinMs) {
            ofAll.push(`It would take about ${allMs / 1000} s, and ${withinMs / 1000} s are allowed.`)
          }
          const planned: CopyTargetPlan[] = []
          for (const [i, { why, ...target }] of moved.entries()) {
            const freeBytes = (await jobs.freeBytes(target.regionId)) ?? null
            planned.push({
              ...target,
              chargedBytes: dataBytes,
              freeBytes: tellsSpace ? freeBytes : null,
              estimateMs: each[i] ?? null,
              blockers: [
                ...(targets[i]?.blockers ?? []),
                ...(why === undefined ? [] : [why]),
                ...ofAll,
                ...(await roomBlockers(target.regionId, target, freeBytes, tellsSpace)),
              ],
            })
          }
          const plan: CopyPlan = {
            targets: planned,
            moveBytes: planned.reduce((sum, { moveBytes }) => sum + (moveBytes ?? 0), 0),
            estimateMs: allMs,
            isPossible: planned.every(({ blockers }) => blockers.length === 0),
          }
          await context.finish({ ...plan }, async () => {})
        },
      },
    ],
    undo: async () => {},
  }
}
