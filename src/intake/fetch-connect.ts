import { connect as connectSocket, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { Fault } from '../image/fault.ts'
import { type Address, formatAddress, parseAddress } from './addresses.ts'
import { refuseUrl, type Target } from './fetch-url.ts'
import { causeOf, failed, within } from './fetch-wait.ts'

/** A connection on its way to exactly this address. */
export type Connect = (place: {
  readonly host: string
  readonly family: 4 | 6
  readonly port: number
}) => Socket

export interface ConnectOptions {
  readonly connect: Connect | undefined
  readonly connectMs: number
  readonly authority: string | undefined
}

/**
 * A connection to the first of these addresses that takes one, with TLS where the target says https; all of it within
 * `connectMs`. It stands, and leads to the address that was asked for. Faults: 'unavailable' 'file'; 'invalid'
 * 'request' reason 'url' for a certificate that is not good.
 */
export async function connectTo(
  target: Target,
  addresses: readonly Address[],
  options: ConnectOptions,
  signal: AbortSignal,
): Promise<Socket> {
  const endMs = performance.now() + options.connectMs
  let last: unknown
  for (const [index, address] of addresses.entries()) {
    // What is left is shared by those that are left, so that one dead address does not take it all.
    const ms = Math.max(1, (endMs - performance.now()) / (addresses.length - index))
    try {
      const socket = await open(target, address, ms, options, signal)
      if (target.url.protocol !== 'https:') return socket
      return await secure(socket, target, Math.max(1, endMs - performance.now()), options, signal)
    } catch (error) {
      signal.throwIfAborted()
      // Another address of the same name would show the same certificate, and one that was led elsewhere is an attack.
      if (error instanceof Fault && error.kind === 'invalid') throw error
      last = error
    }
  }
  throw last instanceof Fault
    ? last
    : failed('The server cannot be reached. Try again later.', { cause: causeOf(last) })
}

async function open(
  { port }: Target,
  address: Address,
  ms: number,
  options: ConnectOptions,
  signal: AbortSignal,
): Promise<Socket> {
  const { connect = connectSocket } = options
  const socket = connect({ host: formatAddress(address), family: address.family, port })
  // Stays: what breaks while nobody listens must not end the process.
  socket.on('error', () => {})
  try {
    await within(ms, signal, late, settled(socket, 'connect'))
    // What stands between us and the address, if anything, is the host's; this is the last look before a byte is sent.
    const there = parseAddress(socket.remoteAddress ?? '')
    if (there?.family !== address.family || there.bits !== address.bits || socket.remotePort !== port) {
      throw new Fault('invalid', 'This address may not be fetched from: the connection led elsewhere.', {
        reason: 'address',
      })
    }
    return socket
  } catch (error) {
    socket.destroy()
    throw error
  }
}

async function secure(
  socket: Socket,
  { host, url }: Target,
  ms: number,
  { authority }: ConnectOptions,
  signal: AbortSignal,
): Promise<Socket> {
  const tls = connectTls({
    socket,
    // Checked against the certificate; an address is not sent as a name.
    host: host.is === 'name' ? host.name : url.hostname.replace(/^\[|\]$/g, ''),
    ...(host.is === 'name' ? { servername: host.name } : {}),
    ALPNProtocols: ['http/1.1'],
    minVersion: 'TLSv1.2',
    // Said, so that no variable of the environment says otherwise.
    rejectUnauthorized: true,
    ...(authority === undefined ? {} : { ca: authority }),
  })
  tls.on('error', () => {})
  try {
    await within(ms, signal, late, settled(tls, 'secureConnect'))
    return tls
  } catch (error) {
    tls.destroy()
    socket.destroy()
    if (!isCertificateError(error)) throw error
    throw refuseUrl('The certificate of the server is not trusted, has expired or is for another name.', {
      cause: causeOf(error),
    })
  }
}

function settled(socket: Socket, event: 'connect' | 'secureConnect'): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once(event, () => resolve())
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('closed')))
  })
}

function isCertificateError(error: unknown): boolean {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' && /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_CERT)/.test(code)
}

const late = () => failed('The server cannot be reached in time. Try again later.')
