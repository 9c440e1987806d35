import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { GuardOrder, GuardWord } from './freeze-guard.ts'

/** How a freeze ended. */
export interface Thaw {
  /** All file systems stood frozen until the thaw was asked for; else `why` says for people why not. */
  readonly heldAll: boolean
  readonly frozenMs: number
  readonly why: string
  /** False if nobody could confirm it yet: the guest may be frozen, or freeze late. */
  readonly isThawed: boolean
}

export interface GuardOptions {
  /** How long `released` takes at most. */
  readonly releaseMs: number
  /** When this comes, nothing is waited for any more. */
  readonly cutOff: AbortSignal
  /** Thaws in place of a guard that was killed; false if `end` came before the agent confirmed it. */
  thaw(end: AbortSignal): Promise<boolean>
}

const GUARD_PATH = fileURLToPath(new URL('./freeze-guard.ts', import.meta.url))
const UNCONFIRMED = 'The guest did not confirm in time that it was thawed.'

/** The process that holds a freeze (`freeze-guard.ts`), as its starter sees it. */
export class Guard {
  /** How the freezing went; undefined if the process ended, or the guest was cut off, before it was said. */
  readonly firstWord: Promise<GuardWord | undefined>
  readonly #options: GuardOptions
  readonly #child: ChildProcess
  readonly #ended = Promise.withResolvers<void>()
  #last: GuardWord | undefined
  #frozenAtMs = 0
  #released: Promise<Thaw> | undefined

  constructor(order: GuardOrder, options: GuardOptions) {
    this.#options = options
    // In a session of its own, so that neither a Ctrl-C nor the end of the service's reaches it.
    this.#child = spawn(process.execPath, [GUARD_PATH, JSON.stringify(order)], {
      detached: true,
      cwd: '/',
      env: {},
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    const first = Promise.withResolvers<GuardWord | undefined>()
    this.firstWord = first.promise
    options.cutOff.addEventListener('abort', () => first.resolve(this.#last), { once: true })
    // 'close' comes after the last line was read; a process that could not be started has only 'error'.
    for (const event of ['error', 'close'])
      this.#child.once(event, () => {
        first.resolve(this.#last)
        this.#ended.resolve()
      })
    // It may have ended before it reads what we say.
    this.#child.stdin?.on('error', () => {})
    if (!this.#child.stdout) return
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      this.#last = JSON.parse(line) as GuardWord
      if (this.#last.says === 'frozen') this.#frozenAtMs = performance.now()
      first.resolve(this.#last)
    })
  }

  letGo(): void {
    this.#child.stdin?.end('thaw\n')
  }

  /** Asks it to let go, and waits for its end, but not for ever: it goes on by itself. */
  released(): Promise<Thaw> {
    this.#released ??= this.#release()
    return this.#released
  }

  async #release(): Promise<Thaw> {
    this.letGo()
    const { releaseMs, cutOff, thaw } = this.#options
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(), releaseMs)
    const end = AbortSignal.any([cutOff, late.signal])
    try {
      const hasEnded = await comesBefore(end, this.#ended.promise)
      if (this.#last?.says === 'released') {
        const { heldAll, frozenMs, why } = this.#last
        return { heldAll, frozenMs, why, isThawed: true }
      }
      if (!hasEnded) {
        this.#child.unref()
        this.#child.stdout?.destroy()
      }
      // One that was killed leaves the thaw to us, be it that it had not yet said that it freezes.
      const isThawed = hasEnded && (this.#endedInOrder() || (await thaw(end)))
      const frozenMs = this.#last?.says === 'frozen' ? Math.round(performance.now() - this.#frozenAtMs) : 0
      return { heldAll: false, frozenMs, why: UNCONFIRMED, isThawed }
    } finally {
      clearTimeout(timer)
    }
  }

  /** Then nothing is frozen, as a guard ends by itself only before it freezes, or after it has thawed. */
  #endedInOrder(): boolean {
    return this.#child.pid === undefined || this.#child.exitCode === 0
  }
}

/** False if `end` comes first. */
function comesBefore(end: AbortSignal, event: Promise<void>): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  event.then(() => resolve(true))
  if (end.aborted) resolve(false)
  else end.addEventListener('abort', () => resolve(false), { once: true })
  return promise
}
