import { spellId } from '../../image/ids.ts'
import type { MachineState } from '../../image/machine.ts'
import { gibCeil } from '../../image/region.ts'
import type { Snapshot } from '../../image/snapshot.ts'
import { spellDesktopStatus, spellSecond, spellSnapshotStatus } from './spell.ts'

/** Below this a guess from the time spent so far would be worth nothing. */
const GUESS_PERMILLE_MIN = 10

/**
 * One item of DescribeSnapshots. `machine` has the state of its computer, undefined for one that is gone; without
 * `machine` nothing is said of it. No snapshot here has a restore point, a time at which it will be deleted, or a key
 * of its own, so those fields are left out. Source: wuying.md §4.2.2.
 */
export function packSnapshot(
  snapshot: Snapshot,
  machine: { readonly at: MachineState | undefined } | undefined,
  nowMs: number,
): Readonly<Record<string, unknown>> {
  const desktopStatus = machine?.at === undefined ? undefined : spellDesktopStatus(machine.at)
  return {
    SnapshotId: spellId('snapshot', snapshot.id, 'wuying'),
    SnapshotName: snapshot.name,
    Description: snapshot.description,
    SnapshotType: snapshot.policyId === undefined ? 'USER' : 'AUTO',
    Status: spellSnapshotStatus(snapshot.state),
    Progress: `${Math.floor(snapshot.progressPermille / 10)}%`,
    RemainTime: remainSeconds(snapshot, nowMs),
    CreationTime: spellSecond(snapshot.createdAtMs),
    Creator: snapshot.creator,
    DesktopId: spellId('machine', snapshot.machineId, 'wuying'),
    DesktopName: snapshot.machineName,
    ...(machine === undefined ? {} : { DesktopStatus: desktopStatus ?? 'Deleted' }),
    ...(desktopStatus === undefined ? {} : { DiskStatus: 'Available' }),
    SourceDiskType: snapshot.disk.index === 0 ? 'SYSTEM' : 'DATA',
    // A text in this one answer, although sizes elsewhere are numbers.
    SourceDiskSize: String(gibCeil(snapshot.disk.sizeBytes)),
    OsType: snapshot.osType,
    ProtocolType: 'ASP',
    VolumeEncryptionEnabled: false,
  }
}

/** As much again for each part as the parts so far took; -1 as long as there is nothing to go by, 0 at the end. */
function remainSeconds({ state, progressPermille, createdAtMs }: Snapshot, nowMs: number): number {
  if (state.at !== 'creating') return 0
  if (progressPermille < GUESS_PERMILLE_MIN) return -1
  const spentMs = Math.max(0, nowMs - createdAtMs)
  return Math.ceil((spentMs * (1000 - progressPermille)) / progressPermille / 1000)
}
