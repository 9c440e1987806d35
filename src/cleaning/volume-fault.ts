import { Fault, isFault } from '../image/fault.ts'

/** A refusal that is about one of several volumes: that at `volume` of the caller's own list. */
export class VolumeFault extends Fault {
  readonly volume: number

  constructor(fault: Fault, volume: number) {
    super(fault.kind, fault.message, {
      subject: fault.subject,
      ...(fault.reason !== undefined && { reason: fault.reason }),
      cause: fault.cause,
    })
    this.volume = volume
  }
}

/** What `work` is refused with is about `volume()`, as it is then. */
export async function aboutVolume<Value>(volume: () => number, work: () => Promise<Value>): Promise<Value> {
  try {
    return await work()
  } catch (error) {
    if (!isFault(error, 'conflict') || error.subject !== 'volume' || error instanceof VolumeFault) throw error
    throw new VolumeFault(error, volume())
  }
}
