import { ACTIONS, type UseCase } from '../../app/actions.ts'
import type { App, Caller } from '../../app/contract.ts'
import type { FaultSubject } from '../../image/fault.ts'
import type { RegionId } from '../../image/ids.ts'
import type { Region } from '../../image/region.ts'
import {
  accepted,
  missing,
  optional,
  type ParameterTable,
  type Parsed,
  readParameters,
  required,
} from './parameter.ts'
import { projectId, region, zone } from './rules.ts'
import { type Branch, isAbsent } from './tree.ts'

export interface Context {
  readonly app: App
  readonly caller: Caller
}

/** The members of the answer behind RetCode and Action, in the order in which they are written. */
export type Answer = Readonly<Record<string, unknown>>

/** One `Action` of the cloud: a table to read, and one call inward. */
export interface Operation {
  readonly name: string
  readonly useCase: UseCase
  readonly summary: string
  readonly parameters: ParameterTable
  /** The parameter that a fault about a subject means, where the fault itself names none. */
  readonly words: Partial<Readonly<Record<FaultSubject, string>>>
  /** Throws Fault. */
  perform(context: Context, root: Branch): Promise<Answer>
}

interface Definition<Table extends ParameterTable> extends Omit<Operation, 'perform' | 'parameters'> {
  readonly parameters: Table
  run(context: Context, given: Parsed<Table>): Promise<Answer>
}

/**
 * Sub-users must name a project wherever the operation knows one, as the cloud asks them to; the main account has a
 * default. Source: uhost.md §5.
 */
export function defineOperation<Table extends ParameterTable>(definition: Definition<Table>): Operation {
  const { run, ...described } = definition
  return {
    ...described,
    async perform(context, root) {
      const needsProject = 'ProjectId' in definition.parameters && !context.caller.isRoot
      if (needsProject && isAbsent(root.children.get('ProjectId'))) throw missing('ProjectId')
      const scope = { regions: context.app.regions, root }
      return run(context, readParameters(definition.parameters, root, '', scope))
    },
  }
}

/** The name a policy has for the operation: `uhost:CopyCustomImage`. */
export function actionOf(operation: Operation): string | undefined {
  return (ACTIONS[operation.useCase] as { readonly uhost?: string }).uhost
}

/** What nearly every operation takes. */
export const PLACE = {
  Region: required(region()),
  Zone: accepted(zone(), 'images belong to the region, and a host is found by its id alone'),
  ProjectId: optional(projectId(), 'default: the main account’s default project; sub-users must send it'),
}

/** Region and project in our own words. */
export function placeOf(given: Pick<Parsed<typeof PLACE>, 'Region' | 'ProjectId'>): {
  readonly regionId: RegionId
  readonly projectId: Parsed<typeof PLACE>['ProjectId']
} {
  const { id }: Region = given.Region
  return { regionId: id, projectId: given.ProjectId }
}
