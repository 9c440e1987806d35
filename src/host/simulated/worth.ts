import type { OsType } from '../../image/image.ts'
import type { Consistency, DiskExports, WantedConsistency } from '../contract.ts'

/** What a running guest's agent can do; a guest without one has disks as after a power cut. */
export interface SimulatedAgent {
  readonly consistency: Consistency
  /** '' where it is the most there is. */
  readonly consistencyWhy: string
  readonly frozenMs: number
  readonly os?: { readonly type: OsType; readonly name: string }
}

export type LastEvent = 'shut-down' | 'cut-off' | 'replaced'

/** Why the disks of a machine without a guest are worth no more than after a power cut. */
const WHYS = {
  'cut-off': 'The guest was cut off, not shut down.',
  replaced: 'A disk was given other content since the guest was shut down.',
} as const

export interface GuestState {
  readonly guest: unknown
  readonly agent: SimulatedAgent | undefined
  /** What happened to the disks last; undefined if no guest ever ran. */
  readonly last: LastEvent | undefined
}

type Worth = Pick<DiskExports, 'consistency' | 'consistencyWhy' | 'frozenMs' | 'os'>

/** What the disks are worth at this moment, where so much is wanted. */
export function worthOf(machine: GuestState, wanted: WantedConsistency): Worth {
  const { guest, agent, last } = machine
  const crash = (consistencyWhy: string): Worth => ({ consistency: 'crash', consistencyWhy, frozenMs: 0 })
  if (guest === undefined) {
    if (last === 'shut-down') return { consistency: 'application', consistencyWhy: '', frozenMs: 0 }
    return crash(last === undefined ? 'The machine has never run.' : WHYS[last])
  }
  if (wanted === 'crash') return crash('Nothing more was asked for.')
  if (agent === undefined) return crash('The guest has no agent that answers.')
  return agent
}
