import { ERRORS } from './errors.ts'
import { actionOf, type Operation } from './operation.ts'
import { OPERATIONS } from './operations/index.ts'
import type { Parameter, ParameterTable } from './parameter.ts'

/** The operations and the error table as Markdown: the second half of docs/wire-uhost.md, held true by a test. */
export function wireTables(): string {
  const errors = ERRORS.map(
    ({ retCode, kind, subject, reason, operation, form }) =>
      `| ${retCode} | ${kind} | ${subject ?? ''} | ${reason ?? ''} | ${operation ?? ''} | \`${form}\` |`,
  )
  return [
    ...OPERATIONS.map(operationTable),
    '## Errors\n',
    'The first line that fits a fault is its answer; an empty cell fits all. HTTP status is always 200.\n',
    '| RetCode | fault | about | reason | operation | message |',
    '|---|---|---|---|---|---|',
    ...errors,
    '| 150 | a bug of ours | | | | `Service unavailable: …` |',
    '',
  ].join('\n')
}

function operationTable(operation: Operation): string {
  const rows = parameterRows(operation.parameters, '')
  const table =
    rows.length === 0
      ? ['No parameters.']
      : ['| parameter | form | required | here |', '|---|---|---|---|', ...rows]
  const lines = [`### ${operation.name}`, '', `${operation.summary} Action: \`${actionOf(operation)}\`.`, '']
  return [...lines, ...table, ''].join('\n')
}

function parameterRows(table: ParameterTable, prefix: string): string[] {
  return Object.entries(table).flatMap(([name, parameter]) => {
    const { rule, isRequired, note } = parameter
    const row = `| ${prefix}${name} | ${rule.shape} | ${isRequired ? 'yes' : ''} | ${effectWords(parameter, note)} |`
    const inner = rule.shape.startsWith('list') ? `${prefix}${name}.N.` : `${prefix}${name}.`
    return [row, ...(rule.members ? parameterRows(rule.members, inner) : [])]
  })
}

function effectWords({ effect }: Parameter<unknown>, note: string): string {
  switch (effect) {
    case 'used':
      return note
    case 'accepted':
      return `no effect: ${note}`
    case 'refused':
      return `refused: ${note}`
    default:
      return effect satisfies never
  }
}
