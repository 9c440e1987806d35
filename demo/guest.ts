import { setTimeout as delay } from 'node:timers/promises'
import { findId, spellId } from '../src/image/ids.ts'
import type { Server } from './server.ts'

const PROMPT = 'guest# '
const LOOK_MS = 100
/** More than what is kept of a console needs; a guest that never stops talking must not hold us. */
const READS_MAX = 100

/** The serial console of a guest made from the demo's base image, through our own API. */
export class GuestConsole {
  readonly #server: Server
  readonly #path: string
  readonly #place: { readonly region: string; readonly project?: string }
  #text = ''
  #next = 0

  /** `machineId` in any door's spelling. */
  constructor(
    server: Server,
    place: { readonly region: string; readonly project?: string },
    machineId: string,
  ) {
    const id = findId('machine', machineId)
    if (id === undefined) throw new Error(`${machineId} is no machine id`)
    this.#server = server
    this.#place = place
    this.#path = `/v1/machines/${spellId('machine', id, 'native')}/console`
  }

  /** Reads on; false when the guest has said nothing new. */
  async #more(): Promise<boolean> {
    const query = { ...this.#place, from: this.#next }
    type Said = { from: number; next: number; bytes: string }
    const said = await this.#server.native.call<Said>('GET', this.#path, { query })
    // Only the newest part of a console is kept: what comes behind a gap is no continuation of what came before it.
    if (said.from > this.#next) this.#text += `\n[${said.from - this.#next} bytes are no longer kept]\n`
    const isMore = said.next > this.#next
    this.#next = said.next
    this.#text += Buffer.from(said.bytes, 'base64').toString('latin1')
    return isMore
  }

  /** Waits until the guest has said it from where we are; answers what came before it. */
  async waitFor(text: string, waitMs = 120_000): Promise<string> {
    const untilMs = performance.now() + waitMs
    for (;;) {
      const at = this.#text.indexOf(text)
      if (at >= 0) {
        const before = this.#text.slice(0, at)
        this.#text = this.#text.slice(at + text.length)
        return before
      }
      if (performance.now() > untilMs) {
        throw new Error(`The guest did not say '${text}'. It said: ${this.#text.slice(-400)}`)
      }
      await delay(LOOK_MS)
      await this.#more()
    }
  }

  /** The line with which the guest itself says that it is up: its uptime in seconds. */
  async waitUntilUp(): Promise<number> {
    await this.waitFor('calotype-guest up ')
    const rest = await this.waitFor('\n')
    await this.waitFor(PROMPT)
    return Number(rest.trim().split(' ').at(-1))
  }

  /** Runs a command in the guest's shell and answers what it printed. */
  async run(command: string): Promise<string> {
    // What was said before the command, an older prompt included, is not its answer. One read may not hold all of it.
    for (let read = 0; read < READS_MAX && (await this.#more()); read++) this.#text = ''
    this.#text = ''
    const body = { ...this.#place, bytes: Buffer.from(`${command}\n`).toString('base64') }
    await this.#server.native.call('POST', this.#path, { body })
    return (await this.waitFor(PROMPT)).replaceAll('\r', '').trim()
  }
}
