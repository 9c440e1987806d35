import type { UseCase } from '../../app/actions.ts'
import type { App, Caller } from '../../app/contract.ts'
import type { RegionId } from '../../image/ids.ts'
import type { WireHead } from '../gateway-contract.ts'
import type { Fields, Parsed } from './fields.ts'
import type { Followers } from './followers.ts'

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** What a route's `run` works with. */
export interface RouteContext {
  readonly app: App
  readonly caller: Caller
  /** Aborted when the caller has left or the server is closing: a wait ends then. */
  readonly signal: AbortSignal
  /** The region that was named, else the default one. Fault 'absent' 'region'. */
  region(name: string | undefined): RegionId
  /** What links begin with: scheme and host as the caller wrote them, or ''. */
  readonly origin: string
  readonly headers: WireHead['headers']
  /** The caller as the key now stands, for answers that last. Fault 'denied' 'user' where it is good no more. */
  again(): Promise<Caller>
  readonly followers: Followers
}

/** 200: it is so · 201: it was made · 202: it was begun, and a task goes on with it. */
export type SuccessStatus = 200 | 201 | 202

export interface Route {
  readonly method: Method
  /** `:name` stands for one segment, parsed by the field of that name. */
  readonly path: string
  /** The right it asks for is ACTIONS[useCase].native; `app` checks it. */
  readonly useCase: UseCase
  readonly about: string
  readonly status: SuccessStatus
  readonly fields: Fields
  run(context: RouteContext, given: Readonly<Record<string, unknown>>): Promise<object>
  /** Sent as it is made, in place of the answer as JSON. Only at the path that `isFollowed` knows. */
  stream?(answer: object): AsyncIterable<Uint8Array>
  /** Of a successful answer, beside those that every answer has. */
  headers?(answer: object, origin: string): Readonly<Record<string, string>>
}

/** Ties a route's fields to the types that its `run` sees. */
export function route<F extends Fields>(
  declared: Omit<Route, 'run' | 'fields'> & {
    readonly fields: F
    run(context: RouteContext, parameters: Parsed<F>): Promise<object>
  },
): Route {
  // Safe: the door gives `run` what `parseFields(fields, …)` returned, which is Parsed<F>.
  return declared as unknown as Route
}
