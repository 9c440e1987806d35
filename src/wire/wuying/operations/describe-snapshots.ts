import type { App, Caller, SnapshotFilter } from '../../../app/contract.ts'
import { Fault, isFault } from '../../../image/fault.ts'
import { findId, type MachineId, type RegionId } from '../../../image/ids.ts'
import type { MachineState } from '../../../image/machine.ts'
import type { Snapshot } from '../../../image/snapshot.ts'
import { operation } from '../operation.ts'
import { nextToken, pagingOf, pagingParameters } from '../page.ts'
import { optional, type Parsed } from '../parameter.ts'
import { oneOfAnyCase, text, time } from '../rules.ts'
import { packSnapshot } from '../snapshot.ts'

const SECOND_MS = 1000

/** Every documented parameter of DescribeSnapshots. Source: wuying.md §4.2.2. */
const parameters = {
  SnapshotId: optional(text(), 'filter; an id that names no snapshot matches nothing'),
  SnapshotName: optional(text(), 'filter by the name'),
  SnapshotType: optional(
    oneOfAnyCase('all', 'auto', 'user'),
    'filter: auto are those of snapshot policies, user the others; all when absent',
  ),
  DesktopId: optional(text(), 'filter; an id that names no computer matches nothing'),
  DesktopName: optional(text(), 'filter by the computer’s name at the time of the snapshot'),
  SourceDiskType: optional(oneOfAnyCase('SYSTEM', 'DATA'), 'filter'),
  OsType: optional(oneOfAnyCase('Windows', 'Linux'), 'filter'),
  Creator: optional(text(), 'filter by the name of the user who asked for it'),
  StartTime: optional(time, 'filter: made in this second or later'),
  EndTime: optional(time, 'filter: made in this second or before; not before StartTime'),
  ...pagingParameters,
} as const

export const describeSnapshots = operation({
  name: 'DescribeSnapshots',
  useCase: 'snapshots.list',
  summary: 'Lists the snapshots of the region, newest first, those that are being made too.',
  parameters,
  async run({ app, caller, region, pageKey, nowMs }, given) {
    const { MaxResults, NextToken, ...filters } = given
    const scope = { key: pageKey, action: 'DescribeSnapshots', filters: [region.id, filters] }
    const paging = pagingOf(scope, { MaxResults, NextToken })
    const filter = filterOf(region.id, filters)
    // The call is made even where nothing can match: it is what checks the caller's right to ask.
    if (filter === undefined) {
      await app.snapshots.list(caller, { regionId: region.id }, { offset: 0, limit: 1 })
      return { Snapshots: [], NextToken: '' }
    }
    const page = await app.snapshots.list(caller, filter, paging)
    const states = await statesOf(app, caller, region.id, page.items)
    return {
      Snapshots: page.items.map((snapshot) =>
        packSnapshot(snapshot, states && { at: states.get(snapshot.machineId) }, nowMs),
      ),
      NextToken: nextToken(scope, paging, page.total),
    }
  },
})

type Filters = Omit<Parsed<typeof parameters>, 'MaxResults' | 'NextToken'>

/** Undefined where nothing can match. Throws Fault 'invalid' for times the wrong way round. */
function filterOf(regionId: RegionId, filters: Filters): SnapshotFilter | undefined {
  const id = filters.SnapshotId === undefined ? undefined : findId('snapshot', filters.SnapshotId)
  const machineId = filters.DesktopId === undefined ? undefined : findId('machine', filters.DesktopId)
  const fromMs = filters.StartTime === undefined ? undefined : Date.parse(filters.StartTime)
  // CreationTime is shown in whole seconds, so the second of EndTime is in.
  const untilMs = filters.EndTime === undefined ? undefined : Date.parse(filters.EndTime) + SECOND_MS
  if (fromMs !== undefined && untilMs !== undefined && untilMs <= fromMs)
    throw new Fault('invalid', 'It is before StartTime.', { field: 'EndTime' })
  if (filters.SnapshotId !== undefined && id === undefined) return undefined
  if (filters.DesktopId !== undefined && machineId === undefined) return undefined
  return {
    regionId,
    ...(id === undefined ? {} : { ids: [id] }),
    ...(machineId === undefined ? {} : { machineIds: [machineId] }),
    ...(filters.DesktopName === undefined ? {} : { machineName: filters.DesktopName }),
    ...(filters.SnapshotName === undefined ? {} : { name: filters.SnapshotName }),
    ...(filters.Creator === undefined ? {} : { creator: filters.Creator }),
    ...(filters.OsType === undefined ? {} : { osType: filters.OsType }),
    ...(filters.SourceDiskType === undefined
      ? {}
      : { disk: filters.SourceDiskType === 'SYSTEM' ? 'system' : 'data' }),
    ...(filters.SnapshotType === undefined || filters.SnapshotType === 'all'
      ? {}
      : { madeBy: filters.SnapshotType === 'auto' ? 'policy' : 'user' }),
    ...(fromMs === undefined ? {} : { fromMs }),
    ...(untilMs === undefined ? {} : { untilMs }),
  }
}

/**
 * The states of the computers that the snapshots are of, one that is gone in no entry; undefined for a caller without
 * the right to see computers, who is shown none.
 */
async function statesOf(
  app: App,
  caller: Caller,
  regionId: RegionId,
  snapshots: readonly Snapshot[],
): Promise<ReadonlyMap<MachineId, MachineState> | undefined> {
  const ids = [...new Set(snapshots.map(({ machineId }) => machineId))]
  if (ids.length === 0) return new Map()
  try {
    const machines = await app.machines.list(caller, { regionId, ids }, { offset: 0, limit: ids.length })
    return new Map(machines.items.map(({ id, state }) => [id, state]))
  } catch (error) {
    if (isFault(error, 'denied')) return undefined
    throw error
  }
}
