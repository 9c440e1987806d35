import { Fault } from '../../image/fault.ts'
import type { ExportFormat } from './contract.ts'

/** The disk does not fit the format that was asked for. */
export function tooLarge(format: ExportFormat, holds: string, others: string): Fault {
  return new Fault('invalid', `The format ${format} holds ${holds}. Export this disk as ${others}.`, {
    subject: 'file',
    reason: 'too-large',
  })
}
