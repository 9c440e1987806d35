import { ACTIONS } from '../../app/actions.ts'
import type { Route } from './route.ts'

function describe(route: Route): string {
  const action = (ACTIONS[route.useCase] as { native?: string }).native ?? ''
  const rows = Object.entries(route.fields).map(([name, field]) => {
    const where = route.path.includes(`:${name}`) ? 'path' : field.isOptional ? 'optional' : 'required'
    return `| \`${name}\` | ${where} | ${field.takes} |`
  })
  const table = rows.length === 0 ? [] : ['', '| parameter | | takes |', '|---|---|---|', ...rows]
  return [
    `### \`${route.method} ${route.path}\``,
    '',
    `${route.about} Right: \`${action}\`. Answers ${route.status}.`,
    ...table,
  ].join('\n')
}

/** The part of docs/api.md that follows from the routes: one heading a route, in their order. */
export function describeRoutes(routes: readonly Route[]): string {
  return `${routes.map(describe).join('\n\n')}\n`
}
