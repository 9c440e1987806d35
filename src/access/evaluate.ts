import assert from 'node:assert/strict'
import { conditionsHold, type RequestContext } from './conditions.ts'
import type { Policy, Statement } from './policy.ts'
import { matchesWildcard } from './wildcard.ts'

export interface AccessRequest {
  /** Every policy that applies to the caller. */
  readonly policies: readonly Policy[]
  /** The operation as `product:Operation`, for example `ecd:CreateImage`. */
  readonly action: string
  /** Every resource the request touches, one name each; never empty. */
  readonly resources: readonly string[]
  readonly context: RequestContext
}

export type Decision =
  | { readonly allowed: true }
  | {
      readonly allowed: false
      readonly why: 'explicit'
      /** The first statement that denies: its place among the policies given, and in its policy. */
      readonly statement: { readonly policyIndex: number; readonly statementIndex: number }
    }
  | { readonly allowed: false; readonly why: 'implicit' }

/**
 * Whether the policies let the request through. A Deny that fits any of the resources wins over everything;
 * otherwise each resource needs an Allow that fits it; what nothing allows is denied.
 * Action names match without regard to case, because the clouds do not say and a Deny must not be dodged by
 * spelling; resources match exactly as written.
 * Source: RAM, "Policy evaluation process" (identity policies, one level).
 */
export function evaluate(request: AccessRequest): Decision {
  assert(request.resources.length > 0, 'a request touches at least one resource')
  const allowed = new Set<string>()
  for (const [policyIndex, policy] of request.policies.entries()) {
    for (const [statementIndex, statement] of policy.statements.entries()) {
      if (!coversAction(statement, request.action)) continue
      const touched = request.resources.filter((name) => coversResource(statement, name))
      if (touched.length === 0 || !conditionsHold(statement.conditions, request.context)) continue
      if (statement.effect === 'Deny') {
        return { allowed: false, why: 'explicit', statement: { policyIndex, statementIndex } }
      }
      for (const name of touched) allowed.add(name)
    }
  }
  return request.resources.every((name) => allowed.has(name))
    ? { allowed: true }
    : { allowed: false, why: 'implicit' }
}

function coversAction({ actions }: Statement, action: string): boolean {
  const isNamed = actions.patterns.some((pattern) => {
    return matchesWildcard(pattern.toLowerCase(), action.toLowerCase())
  })
  return isNamed === (actions.cover === 'only')
}

function coversResource({ resources }: Statement, name: string): boolean {
  return resources.some((pattern) => matchesWildcard(pattern, name))
}
