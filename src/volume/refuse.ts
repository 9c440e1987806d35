import { Fault } from '../image/fault.ts'
import type { RefusalReason } from './contract.ts'

/** A volume cannot be cleaned; `message` says why and what to do next, without a name from inside it. */
export function refuse(reason: RefusalReason, message: string, cause?: unknown): Fault {
  return new Fault('conflict', message, {
    subject: 'volume',
    reason,
    ...(cause === undefined ? {} : { cause }),
  })
}

/** What is on the volume contradicts itself. `what`: where it was seen, by number or structure, never by name. */
export function damaged(what: string): Fault {
  return refuse(
    'damaged',
    `The file system is damaged: ${what}. Check it inside the machine, then try again.`,
  )
}
