import { Fault } from '../image/fault.ts'

/** What one policy document may hold. Bounds what a hostile document can cost at every later request. */
export const POLICY_LIMITS = { statementCountMax: 100, valueCountMax: 200, valueLengthMax: 512 } as const

/** The refusal of one element: `at` is its path in the document, as in `Statement[0].Effect`. */
export function refusal(at: string, problem: string): Fault {
  return new Fault('invalid', `Policy element ${at} ${problem}`, { subject: 'policy', field: at })
}

/** A value as an error message may show it: JSON, cut to 60 characters. */
export function show(json: unknown): string {
  const text = JSON.stringify(json) ?? 'nothing'
  return text.length > 60 ? `${text.slice(0, 60)}…` : text
}

/** The members of a JSON object. `takes` completes the sentence when it is something else. */
export function parseMembers(at: string, json: unknown, takes: string): [string, unknown][] {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw refusal(at, `takes ${takes}, not ${show(json)}.`)
  }
  return Object.entries(json)
}

/** A string or a list of strings, as a list: never empty, every string 1 to 512 characters long. */
export function parseTexts(at: string, json: unknown, takes: string): readonly string[] {
  const list: readonly unknown[] = Array.isArray(json) ? json : [json]
  if (list.length === 0) throw refusal(at, `takes ${takes}, not an empty list.`)
  if (list.length > POLICY_LIMITS.valueCountMax) {
    throw refusal(at, `takes up to ${POLICY_LIMITS.valueCountMax} values, not ${list.length}.`)
  }
  return list.map((value, index) => {
    const where = Array.isArray(json) ? `${at}[${index}]` : at
    if (typeof value !== 'string') throw refusal(where, `takes ${takes}, not ${show(value)}.`)
    if (value.length === 0 || value.length > POLICY_LIMITS.valueLengthMax) {
      throw refusal(
        where,
        `takes text of 1 to ${POLICY_LIMITS.valueLengthMax} characters, not ${value.length}.`,
      )
    }
    return value
  })
}
