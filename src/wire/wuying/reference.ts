import type { Operation } from './operation.ts'
import { OPERATIONS } from './operations/index.ts'
import type { Parameters } from './parameter.ts'

/** The operations and their parameters as Markdown, for docs/wire-wuying.md; a test holds the page to it. */
export function operationsReference(operations: readonly Operation[] = OPERATIONS): string {
  return operations.map(operationReference).join('\n\n')
}

function operationReference({ name, action, summary, parameters }: Operation): string {
  return [
    `### ${name}`,
    '',
    `${summary} Action: \`${action}\`.`,
    '',
    '| Parameter | Use | Takes | Effect |',
    '|---|---|---|---|',
    ...parameterRows('', parameters),
  ].join('\n')
}

function parameterRows(before: string, parameters: Parameters): string[] {
  return Object.entries(parameters).flatMap(([name, { rule, use, note }]) => [
    `| ${before}${name} | ${use} | ${rule.takes} | ${note} |`,
    ...parameterRows(before + name, rule.fields ?? {}),
  ])
}
