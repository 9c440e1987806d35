import { evaluate } from '../access/evaluate.ts'
import { type Policy, parsePolicy } from '../access/policy.ts'
import { systemPolicies } from '../access/system-policies.ts'
import type { Rows } from '../catalog/contract.ts'
import { Fault, isFault } from '../image/fault.ts'
import { type Dialect, type Id, type ProjectId, parseProjectId, spellId } from '../image/ids.ts'
import { ACTIONS, type UseCase } from './actions.ts'
import type { Caller } from './contract.ts'
import type { Parts } from './parts.ts'

/** What a call is about, for policies and for the audit record. '*' where it is about no one thing. */
export interface Target {
  readonly regionId?: string | undefined
  /** `kind/id`, for example `image/0a1b…`; the door's own spelling is put in its place. A call about several names each: a policy may speak of one of them. */
  readonly resource?: string | readonly string[] | undefined
  readonly projectId?: ProjectId | undefined
  /**
   * Where the right has to come from. 'project' (when absent): policies attached everywhere or in the call's project.
   * 'account': attached everywhere only, because what is done reaches beyond one project. 'any': from any one
   * project, for questions that come before a project is chosen.
   */
  readonly reach?: 'project' | 'account' | 'any' | undefined
}

export interface Guard {
  /**
   * The project the call works in, once the caller's right to it is proven. Faults: 'absent' 'project',
   * 'denied' 'project' (no right in that project at all), 'denied' 'policy' with reason 'explicit' or 'implicit'
   * and the action in `field`.
   */
  admit(caller: Caller, useCase: UseCase, target?: Target): Promise<ProjectId>
  /** `work`, for whoever has the right to it by what they hold; leaves one audit record in the caller's name (I9). */
  witness<T>(caller: Caller, useCase: UseCase, target: Target, work: () => Promise<T>): Promise<T>
  /** As `admit`, then `work`; leaves one audit record of what came of it (I9). */
  change<T>(
    caller: Caller,
    useCase: UseCase,
    target: Target,
    work: (projectId: ProjectId) => Promise<T>,
  ): Promise<T>
}

/** Whether the caller has the right, for an answer that tells more to those who have it. Faults of `admit` but 'denied'. */
export async function isAdmitted(
  guard: Pick<Guard, 'admit'>,
  caller: Caller,
  useCase: UseCase,
  target: Target,
): Promise<boolean> {
  try {
    await guard.admit(caller, useCase, target)
    return true
  } catch (error) {
    if (isFault(error, 'denied')) return false
    throw error
  }
}

/** What a cloud calls a machine. Source: uhost.md §5 for `instance/`; WUYING publishes none. */
const MACHINE_WORDS = { wuying: 'desktop', uhost: 'instance', native: 'machine' } as const

const SPELLED = ['image', 'machine', 'task', 'snapshot', 'snapshot-policy'] as const
const isSpelled = (kind: string | undefined): kind is (typeof SPELLED)[number] =>
  SPELLED.some((one) => one === kind)

/** `machine/0a1b…` as the callers of one door know it: `instance/uhost-0a1b…`. Policies are written with such. */
function spellResource(resource: string, door: Dialect): string {
  const [, kind, rest = ''] = /^([a-z-]+)\/(.*)$/s.exec(resource) ?? []
  if (!isSpelled(kind)) return resource
  const id = rest === '*' ? rest : spellId(kind, rest as Id<typeof kind>, door)
  return `${kind === 'machine' ? MACHINE_WORDS[door] : kind}/${id}`
}

const URN_HEADS = { wuying: 'acs', uhost: 'ucs', native: 'calotype' } as const

export function createGuard({ catalog, clock }: Pick<Parts, 'catalog' | 'clock'>): Guard {
  const actionOf = (caller: Caller, useCase: UseCase): string => {
    const action = (ACTIONS[useCase] as Partial<Record<Caller['door'], string>>)[caller.door]
    if (action === undefined) throw new Error(`use case ${useCase} has no name at door ${caller.door}`)
    return action
  }

  const urns = (caller: Caller, action: string, target: Target): string[] => {
    const head = `${URN_HEADS[caller.door]}:${action.split(':')[0]}:${target.regionId ?? '*'}:${caller.accountId}`
    const { resource = '*' } = target
    return (typeof resource === 'string' ? [resource] : resource).map(
      (one) => `${head}:${spellResource(one, caller.door)}`,
    )
  }

  /** The user's policies by the project they are attached in; '' holds those attached everywhere. */
  async function policiesOf(rows: Rows, caller: Caller): Promise<Map<string, Policy[]>> {
    const held = await rows
      .selectFrom('attachment')
      .leftJoin('policy', (join) =>
        join.onRef('policy.name', '=', 'attachment.policyName').on('policy.accountId', '=', caller.accountId),
      )
      .select(['attachment.policyName', 'attachment.projectId', 'policy.document'])
      .where('attachment.userId', '=', caller.userId)
      .execute()
    const byProject = new Map<string, Policy[]>()
    for (const { policyName, projectId, document } of held) {
      const policy =
        document === null ? systemPolicies.get(policyName)?.policy : parsePolicy(JSON.parse(document))
      if (policy === undefined) throw new Error(`policy ${policyName} is attached but does not exist`)
      byProject.set(projectId, [...(byProject.get(projectId) ?? []), policy])
    }
    return byProject
  }

  async function admit(caller: Caller, useCase: UseCase, target: Target = {}): Promise<ProjectId> {
    const action = actionOf(caller, useCase)
    const projectId = target.projectId ?? caller.defaultProjectId
    const project = await catalog.rows
      .selectFrom('project')
      .select('id')
      .where('id', '=', projectId)
      .where('accountId', '=', caller.accountId)
      .executeTakeFirst()
    if (project === undefined) {
      throw new Fault('absent', `Project ${projectId} does not exist. Ask for the list of projects.`, {
        subject: 'project',
      })
    }
    if (caller.isRoot) return parseProjectId(project.id)
    const held = await policiesOf(catalog.rows, caller)
    const everywhere = held.get('') ?? []
    const here = held.get(projectId) ?? []
    if (everywhere.length + here.length === 0 && target.projectId !== undefined) {
      throw new Fault(
        'denied',
        `User ${caller.userName} has no right in project ${projectId}. Ask its owner to attach a policy.`,
        { subject: 'project', reason: 'implicit', field: action },
      )
    }
    const sets = { project: [here], account: [[]], any: [...held.values()] }[target.reach ?? 'project']
    const verdicts = (sets.length === 0 ? [[]] : sets).map((policies) =>
      evaluate({
        policies: [...everywhere, ...policies],
        action,
        resources: urns(caller, action, target),
        context: { sourceIp: caller.sourceIp, nowMs: clock(), isSecure: caller.secureTransport },
      }),
    )
    if (!verdicts.some((verdict) => verdict.allowed)) {
      const isExplicit = verdicts.some((verdict) => !verdict.allowed && verdict.why === 'explicit')
      throw new Fault(
        'denied',
        `User ${caller.userName} may not do ${action}. ` +
          (isExplicit
            ? 'A policy denies it; its owner has to change that policy.'
            : target.reach === 'account'
              ? 'Attach a policy that allows it, in no single project: it reaches beyond one.'
              : 'Attach a policy that allows it.'),
        { subject: 'policy', reason: isExplicit ? 'explicit' : 'implicit', field: action },
      )
    }
    return parseProjectId(project.id)
  }

  async function witness<T>(
    caller: Caller,
    useCase: UseCase,
    target: Target,
    work: () => Promise<T>,
  ): Promise<T> {
    let outcome = 'done'
    try {
      return await work()
    } catch (error) {
      outcome = isFault(error) ? `${error.kind} ${error.subject}` : 'fault of the server'
      throw error
    } finally {
      const action = actionOf(caller, useCase)
      await catalog.rows
        .insertInto('audit')
        .values({
          atMs: clock(),
          userId: caller.userId,
          door: caller.door,
          action,
          resource: urns(caller, action, target).join(' '),
          requestId: caller.requestId,
          outcome,
        })
        .execute()
    }
  }

  return {
    admit,
    witness,
    change: (caller, useCase, target, work) =>
      witness(caller, useCase, target, async () => work(await admit(caller, useCase, target))),
  }
}
