import { Fault } from '../image/fault.ts'
import type { Id } from '../image/ids.ts'

/** One to four parts of [a-z0-9._-] joined by '/', no part starting with '.'. Source: docs/format.md, "Objects". */
export type ObjectName = Id<'object'>

const PART = '[a-z0-9_-][a-z0-9._-]{0,127}'
const NAME = new RegExp(`^${PART}(/${PART}){0,3}$`)

/** The only way text becomes an ObjectName; what passes can be a path below a folder. Throws Fault 'invalid'. */
export function parseObjectName(text: string): ObjectName {
  if (!NAME.test(text)) {
    throw new Fault('invalid', 'An object name is up to four parts of a-z, 0-9, ".", "_" and "-".', {
      subject: 'store',
    })
  }
  return text as ObjectName
}
