import { Fault } from '../../image/fault.ts'

/** Why a bundle is refused. Each has a test that makes such a file. */
export type BundleRefusal = 'corrupt' | 'truncated' | 'version' | 'recipient' | 'too-large'

/** A file that is no bundle for us: Fault 'invalid' 'file'. `message` never holds text out of the file. */
export function refuseBundle(reason: BundleRefusal, message: string, cause?: unknown): Fault {
  return new Fault('invalid', message, { subject: 'file', reason, cause })
}

export function damagedBundle(cause?: unknown): Fault {
  return refuseBundle(
    'corrupt',
    'The bundle is damaged, or something else than Calotype made it. Copy the file again, and compare its SHA-256 with the one at the other end.',
    cause,
  )
}

/** What a bundle was made without, because the other side was told to have it, and it has not. */
export function lackingHere(): Fault {
  return new Fault(
    'conflict',
    'The bundle builds on images that this region does not hold (any more). Make a new inventory of this region, and have the bundle made anew with it.',
    { subject: 'file', reason: 'inventory' },
  )
}
