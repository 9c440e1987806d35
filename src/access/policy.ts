import { type Condition, parseConditions } from './conditions.ts'
import { POLICY_LIMITS, parseMembers, parseTexts, refusal, show } from './elements.ts'

export type Effect = 'Allow' | 'Deny'

export interface Statement {
  readonly effect: Effect
  /** 'only' these patterns (Action), or everything 'except' these (NotAction). */
  readonly actions: { readonly cover: 'only' | 'except'; readonly patterns: readonly string[] }
  readonly resources: readonly string[]
  readonly conditions: readonly Condition[]
}

export interface Policy {
  readonly version: '1'
  readonly statements: readonly Statement[]
}

const ACTION = /^(\*|[A-Za-z0-9*?-]+:[A-Za-z0-9*?]+)$/

/**
 * Reads a policy document in the grammar of RAM (identity-based policies), which UHost's IAM shares:
 * `{"Version": "1", "Statement": [{"Effect", "Action" or "NotAction", "Resource", "Condition"?}]}`.
 * Throws Fault 'invalid' naming the element and what it takes; an element, operator or condition key that is not
 * known is refused, because a rule we would not apply must not look as if it were.
 * Source: RAM, "Policy structure and syntax"; UCloud IAM, "Policy".
 */
export function parsePolicy(json: unknown): Policy {
  const document = knownMembers('Policy', json, 'an object with Version and Statement', [
    'Version',
    'Statement',
  ])
  const version = document.get('Version')
  if (version !== '1') throw refusal('Version', `takes "1", not ${show(version)}.`)
  const list = document.get('Statement')
  if (!Array.isArray(list)) throw refusal('Statement', `takes a list of statements, not ${show(list)}.`)
  if (list.length === 0 || list.length > POLICY_LIMITS.statementCountMax) {
    throw refusal(
      'Statement',
      `takes 1 to ${POLICY_LIMITS.statementCountMax} statements, not ${list.length}.`,
    )
  }
  return {
    version: '1',
    statements: list.map((item, index) => parseStatement(`Statement[${index}]`, item)),
  }
}

function parseStatement(at: string, json: unknown): Statement {
  const members = knownMembers(at, json, 'an object with Effect, Action and Resource', [
    'Effect',
    'Action',
    'NotAction',
    'Resource',
    'Condition',
  ])
  const effect = members.get('Effect')
  if (effect !== 'Allow' && effect !== 'Deny') {
    throw refusal(`${at}.Effect`, `takes "Allow" or "Deny", not ${show(effect)}.`)
  }
  if (members.has('Action') === members.has('NotAction')) {
    throw refusal(at, `takes one of Action and NotAction, not ${members.has('Action') ? 'both' : 'neither'}.`)
  }
  const name = members.has('Action') ? 'Action' : 'NotAction'
  const takes = 'a product and an operation as "ecd:CreateImage" (* and ? may stand in), or "*", or a list'
  const patterns = parseTexts(`${at}.${name}`, members.get(name), takes)
  const bad = patterns.find((pattern) => !ACTION.test(pattern))
  if (bad !== undefined) throw refusal(`${at}.${name}`, `takes ${takes}, not ${show(bad)}.`)
  return {
    effect,
    actions: { cover: name === 'Action' ? 'only' : 'except', patterns },
    resources: parseTexts(
      `${at}.Resource`,
      members.get('Resource'),
      'a resource as "acs:ecd:*:*:*" or "ucs:uhost:*:*:*", or "*", or a list',
    ),
    conditions: members.has('Condition') ? parseConditions(`${at}.Condition`, members.get('Condition')) : [],
  }
}

function knownMembers(
  at: string,
  json: unknown,
  takes: string,
  known: readonly string[],
): ReadonlyMap<string, unknown> {
  const members = parseMembers(at, json, takes)
  const stranger = members.find(([name]) => !known.includes(name))
  if (stranger !== undefined) {
    throw refusal(
      at === 'Policy' ? stranger[0].slice(0, 60) : `${at}.${stranger[0].slice(0, 60)}`,
      `is not known here; ${at === 'Policy' ? 'a policy' : 'a statement'} takes ${known.join(', ')}.`,
    )
  }
  return new Map(members)
}
