import type { ReplicationRule } from '../../image/copy.ts'
import { spellId } from '../../image/ids.ts'

// As show.ts: ids are spelt natively, times are milliseconds since 1970, and a value that is not there is null.

export interface ShownReplicationRule {
  readonly id: string
  readonly project: string
  readonly region: string
  readonly name: string
  readonly filter: {
    readonly namePattern: string | null
    readonly tag: string | null
    readonly familyOf: string | null
  }
  readonly targetProject: string
  readonly targetRegions: readonly string[]
  readonly keepCount: number | null
  readonly isEnabled: boolean
  readonly creator: string
  readonly createdAtMs: number
  readonly lastDoneAtMs: number | null
  readonly lastFailedAtMs: number | null
  readonly lastReason: string | null
}

export function showReplicationRule(rule: ReplicationRule): ShownReplicationRule {
  const { namePattern, tag, familyOf } = rule.filter
  return {
    id: rule.id,
    project: rule.projectId,
    region: rule.regionId,
    name: rule.name,
    filter: {
      namePattern: namePattern ?? null,
      tag: tag ?? null,
      familyOf: familyOf === undefined ? null : spellId('image', familyOf, 'native'),
    },
    targetProject: rule.targetProjectId,
    targetRegions: rule.targetRegionIds,
    keepCount: rule.keepCount,
    isEnabled: rule.isEnabled,
    creator: rule.creator,
    createdAtMs: rule.createdAtMs,
    lastDoneAtMs: rule.lastDoneAtMs ?? null,
    lastFailedAtMs: rule.lastFailedAtMs ?? null,
    lastReason: rule.lastReason ?? null,
  }
}
