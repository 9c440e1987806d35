import { setTimeout as sleep } from 'node:timers/promises'
import type { MachineId } from '../../image/ids.ts'
import type { MachineFolders } from '../tools/folders.ts'
import type { KeyedLock } from '../tools/keyed-lock.ts'
import { cutConsoleLog } from './console.ts'
import type { Guests } from './guests.ts'

/** As long as a guest of an earlier process stands still, it is asked this often to go on. */
const ADOPTION_POLL_MS = 500
const WATCH_MS = 5_000

export interface WatchOptions {
  readonly folders: Pick<MachineFolders, 'list'>
  readonly guests: Pick<Guests, 'isRunning' | 'resume' | 'paths'>
  readonly lock: KeyedLock
  /** How long a round waits for the next; the constants above unless given. */
  readonly waitMs?: number
  /** Thaws a running guest that may be frozen, if it is one; tried once, as the next round comes. */
  thaw(id: MachineId): Promise<void>
  log(text: string, detail?: Readonly<Record<string, unknown>>): void
}

/** What the watch remembers of a machine. */
interface Watched {
  /** It was there before us, and was not yet seen running or off. */
  isEarlier: boolean
  cutBytes: number
  /** By what was done, the last failure that was logged. */
  readonly told: Map<string, string>
}

/**
 * Goes round the machines for as long as the service lives. A guest whose disk failed goes on, unasked, when there is
 * room; one that was there before us goes on also if it was told to stop, because a crash of ours may have left it so,
 * be it that its base is served again only later. One that a freeze may have outlived is thawed. A console's log is kept
 * from growing for ever.
 *
 * What fails with one machine, whatever it is, is logged once and tried again in the next round.
 */
export class Watch {
  readonly #options: WatchOptions
  readonly #closing = new AbortController()
  /** Undefined until the machines could be listed for the first time. */
  #watched: Map<MachineId, Watched> | undefined
  readonly #told = new Map<string, string>()
  #loop: Promise<void> = Promise.resolve()

  constructor(options: WatchOptions) {
    this.#options = options
  }

  start(): void {
    this.#loop = this.#run(this.#closing.signal)
  }

  /** Waits for what the loop is doing with a machine right now. */
  async close(): Promise<void> {
    this.#closing.abort()
    await this.#loop
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#telling(this.#told, 'Listing the machines', () => this.#round(signal))
      const isAdopting = this.#watched?.values().some((one) => one.isEarlier) === true
      const waitMs = this.#options.waitMs ?? (isAdopting ? ADOPTION_POLL_MS : WATCH_MS)
      // Without a reference: a process that has nothing else to do may end.
      await sleep(waitMs, undefined, { signal, ref: false }).catch(() => {})
    }
  }

  async #round(signal: AbortSignal): Promise<void> {
    const before = this.#watched
    const ids = await this.#options.folders.list()
    const fresh = () => ({ isEarlier: before === undefined, cutBytes: 0, told: new Map() })
    const watched = new Map(ids.map((id): [MachineId, Watched] => [id, before?.get(id) ?? fresh()]))
    this.#watched = watched
    for (const [id, one] of watched) {
      for (const [what, work] of [
        [`Letting machine '${id}' go on`, this.#goOn],
        [`Cutting the console log of machine '${id}'`, this.#cut],
      ] as const) {
        if (signal.aborted) return
        await this.#telling(one.told, what, () => this.#options.lock.run(id, () => work.call(this, id, one)))
      }
    }
  }

  async #goOn(id: MachineId, one: Watched): Promise<void> {
    const { guests } = this.#options
    const after = one.isEarlier ? undefined : ['io-error']
    const isRunning = await guests.isRunning(id)
    const found = isRunning ? await guests.resume(id, after) : 'ran'
    // One that stood may stand again at once, so only one that was seen running is done with.
    if (found === 'stood') return
    one.isEarlier = false
    if (isRunning) await this.#options.thaw(id)
  }

  async #cut(id: MachineId, one: Watched): Promise<void> {
    one.cutBytes = await cutConsoleLog(this.#options.guests.paths(id).consoleLog, one.cutBytes)
  }

  async #telling(told: Map<string, string>, what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work()
      told.delete(what)
    } catch (error) {
      const reason = String(error)
      if (told.get(what) === reason) return
      told.set(what, reason)
      this.#options.log(`${what} failed; it is tried again.`, { error })
    }
  }
}
