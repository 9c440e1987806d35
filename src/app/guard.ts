import { evaluate } from '../access/evaluate.ts'
import { type Policy, parsePolicy } from '../access/policy.ts'
import { systemPolicies } from '../access/system-policies.ts'
import type { Rows } from '../catalog/contract.ts'
import { Fault, isFault } from '../image/fault.ts'
import { type ProjectId, parseProjectId } from '../image/ids.ts'
import { ACTIONS, type UseCase } from './actions.ts'
import type { Caller } from './contract.ts'
import type { Parts } from './parts.ts'

/** What a call is about, for policies and for the audit record. '*' where it is about no one thing. */
export interface Target {
  readonly regionId?: string | undefined
  /** `kind/id`, for example `image/0a1b…`. */
  readonly resource?: string | undefined
  readonly projectId?: ProjectId | undefined
}

export interface Guard {
  /**
   * The project the call works in, once the caller's right to it is proven. Faults: 'absent' 'project',
   * 'denied' 'project' (no right in that project at all), 'denied' 'policy' with reason 'explicit' or 'implicit'
   * and the action in `field`.
   */
  admit(caller: Caller, useCase: UseCase, target?: Target): Promise<ProjectId>
  /** As `admit`, then `work`; leaves one audit record of what came of it (I9). */
  change<T>(
    caller: Caller,
    useCase: UseCase,
    target: Target,
    work: (projectId: ProjectId) => Promise<T>,
  ): Promise<T>
}

const URN_HEADS = { wuying: 'acs', uhost: 'ucs', native: 'calotype' } as const

export function createGuard({ catalog, clock }: Pick<Parts, 'catalog' | 'clock'>): Guard {
  const actionOf = (caller: Caller, useCase: UseCase): string => {
    const action = (ACTIONS[useCase] as Partial<Record<Caller['door'], string>>)[caller.door]
    if (action === undefined) throw new Error(`use case ${useCase} has no name at door ${caller.door}`)
    return action
  }

  const urn = (caller: Caller, action: string, target: Target): string => {
    const product = action.split(':')[0]
    return `${URN_HEADS[caller.door]}:${product}:${target.regionId ?? '*'}:${caller.accountId}:${target.resource ?? '*'}`
  }

  async function policiesOf(rows: Rows, caller: Caller, projectId: ProjectId): Promise<Policy[] | undefined> {
    const held = await rows
      .selectFrom('attachment')
      .leftJoin('policy', (join) =>
        join.onRef('policy.name', '=', 'attachment.policyName').on('policy.accountId', '=', caller.accountId),
      )
      .select(['attachment.policyName', 'policy.document'])
      .where('attachment.userId', '=', caller.userId)
      .where('attachment.projectId', 'in', ['', projectId])
      .execute()
    if (held.length === 0) return undefined
    return held.map(({ policyName, document }) => {
      const builtIn = systemPolicies.get(policyName)?.policy
      if (document !== null) return parsePolicy(JSON.parse(document))
      if (builtIn !== undefined) return builtIn
      throw new Error(`policy ${policyName} is attached but does not exist`)
    })
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
    const policies = await policiesOf(catalog.rows, caller, projectId)
    if (policies === undefined && target.projectId !== undefined) {
      throw new Fault(
        'denied',
        `User ${caller.userName} has no right in project ${projectId}. Ask its owner to attach a policy.`,
        { subject: 'project', reason: 'implicit', field: action },
      )
    }
    const verdict = evaluate({
      policies: policies ?? [],
      action,
      resources: [urn(caller, action, target)],
      context: { sourceIp: caller.sourceIp, nowMs: clock(), isSecure: caller.secureTransport },
    })
    if (!verdict.allowed) {
      throw new Fault(
        'denied',
        `User ${caller.userName} may not do ${action}. ` +
          (verdict.why === 'explicit'
            ? 'A policy denies it; its owner has to change that policy.'
            : 'Attach a policy that allows it.'),
        { subject: 'policy', reason: verdict.why, field: action },
      )
    }
    return parseProjectId(project.id)
  }

  return {
    admit,
    async change(caller, useCase, target, work) {
      let outcome = 'done'
      try {
        return await work(await admit(caller, useCase, target))
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
            resource: urn(caller, action, target),
            requestId: caller.requestId,
            outcome,
          })
          .execute()
      }
    },
  }
}
