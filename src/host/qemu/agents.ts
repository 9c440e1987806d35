import { rm, writeFile } from 'node:fs/promises'
import type { MachineId } from '../../image/ids.ts'
import { fileFault, findText } from '../tools/durable.ts'
import { KeyedLock } from '../tools/keyed-lock.ts'
import {
  type AgentOptions,
  type AgentOutlook,
  type Freeze,
  type FreezeOptions,
  freezeGuest,
  outlookOf,
  thawIfFrozen,
} from './agent.ts'
import type { Guests } from './guests.ts'
import type { Qmp } from './qmp.ts'

const CAPTURED: AgentOutlook = {
  consistency: 'crash',
  why: 'The machine is being captured now, so its guest agent was not asked. Ask again when that has ended.',
}

/**
 * The agents of all guests. An agent hears one client at a time, so here one talks to it at a time. Before a guest is
 * frozen a mark is made in its machine's folder, which goes when the thaw is confirmed, or the guest has ended: whoever
 * finds it knows that the guest may be frozen, and calls `thawIfMarked`.
 */
export class Agents {
  readonly #guests: Pick<Guests, 'talk' | 'paths'>
  readonly #times: NonNullable<FreezeOptions['times']>
  readonly #lock = new KeyedLock()
  readonly #freezing = new Set<MachineId>()
  readonly #outlooks = new Map<MachineId, Promise<AgentOutlook>>()

  /** `times`: for tests. */
  constructor(guests: Pick<Guests, 'talk' | 'paths'>, times: FreezeOptions['times'] = {}) {
    this.#guests = guests
    this.#times = times
  }

  /** As `freezeGuest`; nobody else is heard by the agent until `thaw` of the answer. One capture at a time does this. */
  async freeze(
    id: MachineId,
    wish: Pick<FreezeOptions, 'wanted' | 'isTrimming' | 'signal' | 'cutOff'>,
  ): Promise<Freeze> {
    const options = { ...this.#channel(id), ...wish, times: this.#times }
    if (wish.wanted === 'crash') return await freezeGuest(options)
    this.#freezing.add(id)
    let letGo = () => {}
    const end = () => {
      this.#freezing.delete(id)
      letGo()
    }
    try {
      letGo = await this.#lock.take(id, wish.signal)
      const wasMarked = await this.#isMarked(id)
      if (!wasMarked) await this.#mark(id)
      const freeze = await freezeGuest(options)
      const release = async () => {
        try {
          const thawed = await freeze.thaw()
          // A guest that was not even asked may be frozen still by an earlier capture.
          if (thawed.isThawed && (freeze.isFrozen || !wasMarked)) await this.#unmark(id)
          return thawed
        } finally {
          end()
        }
      }
      let released: ReturnType<typeof release> | undefined
      const thaw = () => {
        released ??= release()
        return released
      }
      return { ...freeze, thaw }
    } catch (error) {
      end()
      throw error
    }
  }

  /** As `outlookOf`. Whoever asks at the same time gets the same answer, so a capture never has more than one to wait for. */
  async outlook(id: MachineId, signal: AbortSignal): Promise<AgentOutlook> {
    signal.throwIfAborted()
    if (this.#freezing.has(id)) return CAPTURED
    let outlook = this.#outlooks.get(id)
    if (outlook === undefined) {
      const own = new AbortController().signal
      outlook = this.#lock
        .run(id, () => outlookOf({ ...this.#channel(id), signal: own }))
        .finally(() => this.#outlooks.delete(id))
      this.#outlooks.set(id, outlook)
    }
    return await outlook
  }

  /** Thaws a running guest that may be frozen, as far as its agent answers; until then the mark stays. */
  async thawIfMarked(id: MachineId, signal: AbortSignal): Promise<void> {
    if (!(await this.#isMarked(id))) return
    let letGo = () => {}
    try {
      letGo = await this.#lock.take(id, signal)
      const answer = await thawIfFrozen({ ...this.#channel(id), signal })
      if (answer !== 'unknown') await this.#unmark(id)
    } catch (error) {
      if (!signal.aborted) throw error
    } finally {
      letGo()
    }
  }

  async #isMarked(id: MachineId): Promise<boolean> {
    return (await findText(this.#guests.paths(id).freezeMark)) !== undefined
  }

  /** A crash of the host ends the guest too, so the mark need not outlive one. */
  async #mark(id: MachineId): Promise<void> {
    try {
      await writeFile(this.#guests.paths(id).freezeMark, '')
    } catch (error) {
      throw fileFault(error, 'Freezing the guest')
    }
  }

  async #unmark(id: MachineId): Promise<void> {
    await rm(this.#guests.paths(id).freezeMark, { force: true })
  }

  /** Each question to QEMU is a conversation of its own: freezing takes long. */
  #channel(id: MachineId): Pick<AgentOptions, 'qmp' | 'agentPath'> {
    const execute: Qmp['execute'] = (command, args) =>
      this.#guests.talk(id, (qmp) => qmp.execute(command, args))
    return { qmp: { execute }, agentPath: this.#guests.paths(id).agent }
  }
}
