import { Fault } from '../image/fault.ts'
import type { RemoteSource } from '../intake/contract.ts'
import { createSeal, type Seal } from './seal.ts'

/** Keeps addresses, which may hold passwords and keys, in the rows of tasks; opening one of another key is Fault 'corrupt'. */
export type SourceSeal = Seal<RemoteSource>

/** `key`: 32 bytes of the installation. */
export function createSourceSeal(key: Uint8Array): SourceSeal {
  return createSeal(key, (cause) => {
    const message = 'The address of the file cannot be read any more: its key was changed. Import it anew.'
    return new Fault('corrupt', message, { subject: 'file', cause })
  })
}
