import { stat, statfs } from 'node:fs/promises'
import { isErrno } from '../host/tools/durable.ts'
import { Fault } from '../image/fault.ts'

const WATCH_MS = 1000
const MIB = 1024 * 1024
/** Less than this is not worth beginning with. */
const ROOM_BYTES_MIN = 64 * MIB

/** How much of one file system the layers of cleanings may take: what one is promised is not free for the next. */
export class Room {
  readonly #promised = new Map<string, number>()

  /**
   * What the layers of `key` may take together: half of what is free and promised to nobody else, and no more than
   * `bytesMax`. Kept until `giveBack`. Throws Fault 'full' where next to nothing is free.
   */
  async promise(key: string, folder: string, bytesMax: number): Promise<number> {
    const { bavail, bsize } = await statfs(folder)
    let freeBytes = bavail * bsize
    // Some of it is taken by now, and is counted twice: rather too little for the second than too much for both.
    for (const [other, bytes] of this.#promised) if (other !== key) freeBytes -= bytes
    const bytes = Math.max(0, Math.floor(freeBytes / 2))
    if (bytes < ROOM_BYTES_MIN) throw noRoom(bytes)
    const promised = Math.min(bytes, bytesMax)
    this.#promised.set(key, promised)
    return promised
  }

  giveBack(key: string): void {
    this.#promised.delete(key)
  }
}

export interface RoomWatch {
  /** Aborts, with Fault 'full', when the files have grown beyond their room. */
  readonly signal: AbortSignal
  end(): void
}

/** Looks every second how much room the files take, holes not counted. */
export function watchRoom(paths: readonly string[], bytesMax: number): RoomWatch {
  const abort = new AbortController()
  let isLooking = false
  const look = async () => {
    if (isLooking) return
    isLooking = true
    try {
      if ((await takenBytes(paths)) > bytesMax) abort.abort(noRoom(bytesMax))
    } catch (error) {
      abort.abort(error)
    }
    isLooking = false
  }
  const timer = setInterval(look, WATCH_MS)
  return { signal: abort.signal, end: () => clearInterval(timer) }
}

async function takenBytes(paths: readonly string[]): Promise<number> {
  let bytes = 0
  for (const path of paths) {
    try {
      bytes += (await stat(path)).blocks * 512
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
    }
  }
  return bytes
}

function noRoom(bytesMax: number): Fault {
  const room = `${Math.floor(bytesMax / MIB)} MiB`
  const message = `Cleaning takes more than ${room}, which is its share of what is free in the host's scratch folder. Make room on the host, or wait until other cleanings have ended, then try again.`
  return new Fault('full', message, { subject: 'host' })
}
