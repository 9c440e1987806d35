import { Agent } from 'node:https'
import type { Duplex } from 'node:stream'
import { connect, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls'
import { Fault } from '../image/fault.ts'
import type { PeerPlace } from './contract.ts'
import { fingerprintOfDer } from './identity.ts'
import { TLS } from './words.ts'

export const SOCKETS_MAX = 16
/** Less than the other end keeps one: who closes first does not lose a request on its way. */
const KEEP_MS = 30_000

export interface ConnectTimes {
  /** For name, connection and TLS together. */
  readonly connectMs: number
  /** For a connection that was begun and that nobody has used: the other end waits longer for its first question. */
  readonly begunMs: number
}

type Done = (error: Error | null, stream: Duplex) => void

/** Connections to one peer: nothing is sent over one before the certificate at its other end was found to be the right one. */
export class PinnedAgent extends Agent {
  readonly #place: PeerPlace
  readonly #times: ConnectTimes
  readonly #begun: BegunSocket[] = []
  #context: SecureContext | undefined

  constructor(place: PeerPlace, times: ConnectTimes) {
    super({ keepAlive: true, maxSockets: SOCKETS_MAX, maxFreeSockets: SOCKETS_MAX, timeout: KEEP_MS })
    this.#place = place
    this.#times = times
  }

  begin(host: string, port: number, count: number): void {
    for (let i = 0; i < count; i++) {
      const socket = this.#connect(host, port, (error) => begun.end(error))
      const begun = new BegunSocket(socket, this.#times.begunMs)
      this.#begun.push(begun)
    }
  }

  override createConnection(
    options: { readonly host?: string | null; readonly port?: string | number | null },
    done?: Done,
  ): undefined {
    const told = done ?? (() => {})
    for (let begun = this.#begun.shift(); begun !== undefined; begun = this.#begun.shift()) {
      if (begun.give(told)) return undefined
    }
    this.#connect(options.host ?? '', Number(options.port), told)
    return undefined
  }

  override destroy(): void {
    for (const begun of this.#begun.splice(0)) begun.drop()
    super.destroy()
  }

  #connect(host: string, port: number, done: Done): TLSSocket {
    const { name, certificate, key, fingerprint } = this.#place
    this.#context ??= createSecureContext({ ...TLS, cert: certificate, key })
    const socket: TLSSocket = connect({
      ...TLS,
      ...{ host, port, secureContext: this.#context, servername: '' },
      // The pin below takes the place of authorities and names. That the other end has the certificate's key TLS proves.
      rejectUnauthorized: false,
    })
    const late = setTimeout(() => {
      const why = `Peer ${name} does not answer (connecting takes too long). See that it runs and can be reached.`
      socket.destroy(new Fault('unavailable', why, { subject: 'peer' }))
    }, this.#times.connectMs)
    const fail = (error: Error) => {
      clearTimeout(late)
      done(error, socket)
    }
    socket.once('error', fail)
    socket.once('close', () => clearTimeout(late))
    socket.once('secureConnect', () => {
      clearTimeout(late)
      socket.off('error', fail)
      const shown = socket.getPeerX509Certificate()
      if (shown !== undefined && fingerprintOfDer(shown.raw) === fingerprint) return done(null, socket)
      socket.on('error', () => {})
      socket.destroy()
      const found = shown === undefined ? 'none' : fingerprintOfDer(shown.raw)
      done(
        new Fault(
          'denied',
          `Peer ${name} shows another certificate than peers.${name}.fingerprint says: ${found}. Ask whoever runs it for the right one, over another way.`,
          { subject: 'peer' },
        ),
        socket,
      )
    })
    return socket
  }
}

/** A connection that nobody has asked for yet. What it comes to whoever gets it is told. */
class BegunSocket {
  readonly #socket: TLSSocket
  readonly #old: NodeJS.Timeout
  /** By the clock too: a process that stood still has not seen its timers. */
  readonly #goodUntilMs: number
  #outcome: { readonly error: Error | null } | undefined
  #done: Done | undefined

  constructor(socket: TLSSocket, keptMs: number) {
    this.#socket = socket
    this.#goodUntilMs = performance.now() + keptMs
    this.#old = setTimeout(() => this.drop(), keptMs).unref()
  }

  /** It is connected, or will never be. */
  end(error: Error | null): void {
    this.#outcome = { error }
    if (this.#done !== undefined) this.#done(error, this.#socket)
    // Until somebody has it nobody listens, and nobody is told of an end that he did not wait for.
    else this.#socket.on('error', ignore)
  }

  /** False where it is of no use any more: what a failure was, a connection of now finds out. */
  give(done: Done): boolean {
    clearTimeout(this.#old)
    const isFailed = this.#outcome !== undefined && this.#outcome.error !== null
    if (isFailed || this.#socket.destroyed || performance.now() > this.#goodUntilMs) {
      this.drop()
      return false
    }
    this.#socket.off('error', ignore)
    if (this.#outcome === undefined) this.#done = done
    else done(null, this.#socket)
    return true
  }

  drop(): void {
    clearTimeout(this.#old)
    this.#socket.on('error', ignore)
    this.#socket.destroy()
  }
}

const ignore = () => {}
