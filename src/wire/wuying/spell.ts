import type { Image } from '../../image/image.ts'
import type { Machine, MachineState } from '../../image/machine.ts'
import type { Snapshot } from '../../image/snapshot.ts'

/** `yyyy-MM-ddTHH:mm:ssZ`: images and snapshots. Source: wuying.md §1.8. */
export function spellSecond(timeMs: number): string {
  return `${new Date(timeMs).toISOString().slice(0, 19)}Z`
}

/** `yyyy-MM-ddTHH:mmZ`: computers. */
export function spellMinute(timeMs: number): string {
  return `${new Date(timeMs).toISOString().slice(0, 16)}Z`
}

/** Every published DesktopStatus; those without a state here are good filters that match nothing. Source: §5.1. */
export const DESKTOP_STATUSES = [
  'Pending',
  'Starting',
  'Running',
  'Stopping',
  'Stopped',
  'Rebuilding',
  'Expired',
  'Deleted',
  'Failed',
  'Hibernated',
] as const
export type DesktopStatus = (typeof DESKTOP_STATUSES)[number]

const STATUS_OF_STATE: Record<Exclude<MachineState, 'deleting'>, DesktopStatus> = {
  creating: 'Pending',
  starting: 'Starting',
  running: 'Running',
  stopping: 'Stopping',
  stopped: 'Stopped',
  failed: 'Failed',
}
export const LISTED_STATES = Object.keys(STATUS_OF_STATE) as Exclude<MachineState, 'deleting'>[]

/** Undefined for a machine on its way out: this cloud no longer lists it. */
export function spellDesktopStatus(state: Machine['state']): DesktopStatus | undefined {
  return state === 'deleting' ? undefined : STATUS_OF_STATE[state]
}

/** The states behind a DesktopStatus: none or one. */
export function statesOfStatus(status: DesktopStatus): Exclude<MachineState, 'deleting'>[] {
  return LISTED_STATES.filter((state) => STATUS_OF_STATE[state] === status)
}

export const IMAGE_STATUSES = ['Creating', 'Available', 'CreateFailed'] as const
export type ImageStatus = (typeof IMAGE_STATUSES)[number]

const STATUS_OF_IMAGE: Record<Image['state']['at'], ImageStatus> = {
  creating: 'Creating',
  available: 'Available',
  failed: 'CreateFailed',
}

export function spellImageStatus(state: Image['state']): ImageStatus {
  return STATUS_OF_IMAGE[state.at]
}

export function stateOfImageStatus(status: ImageStatus): Image['state']['at'] {
  switch (status) {
    case 'Creating':
      return 'creating'
    case 'Available':
      return 'available'
    case 'CreateFailed':
      return 'failed'
    default:
      return status satisfies never
  }
}

const STATUS_OF_SNAPSHOT: Record<Snapshot['state']['at'], 'PROGRESSING' | 'ACCOMPLISHED' | 'FAILED'> = {
  creating: 'PROGRESSING',
  available: 'ACCOMPLISHED',
  failed: 'FAILED',
}

/** Source: wuying.md §5.3. */
export function spellSnapshotStatus(state: Snapshot['state']): 'PROGRESSING' | 'ACCOMPLISHED' | 'FAILED' {
  return STATUS_OF_SNAPSHOT[state.at]
}
