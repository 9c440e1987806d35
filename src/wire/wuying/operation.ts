import { ACTIONS } from '../../app/actions.ts'
import type { App, Caller } from '../../app/contract.ts'
import type { Region } from '../../image/region.ts'
import { type Parameters, type Parsed, readParameters, required } from './parameter.ts'
import { regionId } from './rules.ts'
import type { ParameterNode } from './tree.ts'

/** The use cases that have a name in this cloud's policies. */
export type WuyingUseCase = {
  [Name in keyof typeof ACTIONS]: (typeof ACTIONS)[Name] extends { readonly wuying: string } ? Name : never
}[keyof typeof ACTIONS]

export interface Context {
  readonly app: App
  readonly caller: Caller
  /** The region of the request: every operation of this API names one. */
  readonly region: Region
  /** Host and port as the client wrote them. */
  readonly host: string
  /** Keys the page tokens of this caller. */
  readonly pageKey: Uint8Array
  /** The moment of the request, in milliseconds since 1970. */
  readonly nowMs: number
}

/** An answer without its RequestId: flat, in the order in which it is written. */
export type Answer = Readonly<Record<string, unknown>>

/** An operation as the door and the reference see it. */
export interface Operation {
  readonly name: string
  /** What it is called in a policy: `ecd:CreateImage`. */
  readonly action: string
  /** What it does, in one sentence. */
  readonly summary: string
  readonly parameters: Parameters
  /** Reads the parameters, makes the call inward and packs the answer. Throws Fault. */
  call(context: Omit<Context, 'region'>, tree: ParameterNode): Promise<Answer>
}

const REGION_ID = required(regionId, 'the region to work in; an unknown one is refused')

/** Declares an operation; `run` sees the parameters typed by their rules. `RegionId` is a parameter of each. */
export function operation<const P extends Parameters>(definition: {
  readonly name: string
  readonly useCase: WuyingUseCase
  readonly summary: string
  readonly parameters: P
  run(context: Context, parameters: Parsed<P>): Promise<Answer>
}): Operation {
  const { name, summary } = definition
  const regionOnly = { RegionId: REGION_ID }
  return {
    name,
    summary,
    action: ACTIONS[definition.useCase].wuying,
    parameters: { ...regionOnly, ...definition.parameters },
    async call(context, tree) {
      const { RegionId } = readParameters(regionOnly, tree)
      const parameters = readParameters(definition.parameters, tree)
      const region = context.app.regions.get(RegionId)
      return definition.run({ ...context, region }, parameters)
    },
  }
}
