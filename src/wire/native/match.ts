import { Fault } from '../../image/fault.ts'
import type { Method, Route } from './route.ts'

const METHODS: readonly string[] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] satisfies Method[]

export interface Match {
  readonly route: Route
  readonly parameters: Readonly<Record<string, string>>
}

/** The values of a pattern's `:names` when `segments` follow it; undefined when they do not. */
function follow(pattern: string, segments: readonly string[]): Record<string, string> | undefined {
  const parts = pattern.split('/')
  if (parts.length !== segments.length) return undefined
  const parameters: Record<string, string> = {}
  for (const [index, part] of parts.entries()) {
    const segment = segments[index] ?? ''
    if (part.startsWith(':') && segment !== '') parameters[part.slice(1)] = segment
    else if (part !== segment) return undefined
  }
  return parameters
}

/**
 * The route of a request. Throws Fault 'absent' 'request' for a path that is none, 'invalid' reason
 * 'method-unsupported' for one that takes other methods, 'invalid' for a path that cannot be decoded.
 */
export function matchRoute(routes: readonly Route[], method: string, path: string): Match {
  let segments: string[]
  try {
    segments = path.split('/').map((segment) => decodeURIComponent(segment))
  } catch (cause) {
    throw new Fault('invalid', 'The path is not percent-encoded UTF-8.', { reason: 'malformed', cause })
  }
  const matches = routes.flatMap((route) => {
    const parameters = follow(route.path, segments)
    return parameters === undefined ? [] : [{ route, parameters }]
  })
  if (matches.length === 0) {
    throw new Fault('absent', `Nothing is at '${path.slice(0, 120)}'. docs/api.md lists every path.`)
  }
  // Of '/v1/images/:id' and '/v1/images/import' the one with fewer names is meant.
  const [best] = matches
    .filter(({ route }) => route.method === method)
    .sort((a, b) => Object.keys(a.parameters).length - Object.keys(b.parameters).length)
  if (best !== undefined) return best
  const takes = METHODS.filter((known) => matches.some(({ route }) => route.method === known)).join(', ')
  throw new Fault('invalid', `'${path.slice(0, 120)}' takes ${takes}, not ${method}.`, {
    reason: 'method-unsupported',
  })
}
