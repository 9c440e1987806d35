import { refuseFile } from './contract.ts'

/** `what` continues 'The archive …'. */
export function refuseArchive(what: string) {
  return refuseFile(
    'archive',
    `The archive ${what}. Export the machine again as OVA, or bring in its disks one by one.`,
  )
}
