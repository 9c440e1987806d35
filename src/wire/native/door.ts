import type { App, Keyring } from '../../app/contract.ts'
import { isFault } from '../../image/fault.ts'
import { splitUrl } from '../acs3.ts'
import { jsonAnswer } from '../gateway-answer.ts'
import type { Door } from '../gateway-contract.ts'
import { authenticate } from './authenticate.ts'
import { errorAnswer, faultAnswer } from './errors.ts'
import { parseFields } from './fields.ts'
import { matchRoute } from './match.ts'
import { readParameters } from './read-parameters.ts'
import { routes } from './routes/index.ts'

export interface NativeDoorOptions {
  readonly app: App
  readonly keyring: Keyring
  readonly clock: () => number
  /** How far a request's date may lie from our clock, either way. */
  readonly clockWindowMs: number
  /** Told of every bug, with the request it happened in. */
  readonly onBug: (error: unknown, requestId: string) => void
}

/** Our own door: JSON under /v1, one route a use case (docs/api.md). Every request is signed. */
export function createNativeDoor(options: NativeDoorOptions): Door {
  const { app, keyring, clock, clockWindowMs } = options
  return {
    async handle(request) {
      try {
        // First who asks: a stranger does not learn which paths and parameters there are.
        const caller = await authenticate(request, keyring, clock(), clockWindowMs)
        const { path, queryText } = splitUrl(request.url)
        const match = matchRoute(routes, request.method, path)
        const given = readParameters(match, queryText, request.body)
        const parameters = parseFields(match.route.fields, given)
        const region = (name: string | undefined) =>
          name === undefined ? app.regions.default().regionId : app.regions.get(name).id
        const context = { app, caller, signal: request.signal, region }
        return jsonAnswer(match.route.status, await match.route.run(context, parameters))
      } catch (error) {
        if (!isFault(error)) options.onBug(error, request.requestId)
        return errorAnswer(error, request.requestId)
      }
    },
    refuse: (fault, request) => faultAnswer(fault, request.requestId),
  }
}
