import { type IncomingMessage, request } from 'node:http'
import { networkInterfaces } from 'node:os'
import { Fault } from '../image/fault.ts'
import { type Address, kindOf, parseAddress } from './addresses.ts'
import { type Allowed, isAllowedName, isAllowedPort, mayReach, parseAllowed } from './fetch-allow.ts'
import { type Connect, connectTo } from './fetch-connect.ts'
import { type Lookup, lookupAsHost, lookupInDns } from './fetch-lookup.ts'
import type { Target } from './fetch-url.ts'
import { causeOf, failed, within } from './fetch-wait.ts'

/** Whether addresses may be reached, and how. The parts that tests put in are the system's own where they are absent. */
export interface Guard {
  readonly allowed: readonly Allowed[]
  /** Instead of both ways to ask for a name. */
  readonly lookup: Lookup | undefined
  readonly connect: Connect | undefined
  /** This host's own: public ones among them lead to what listens here and was meant for nobody outside. */
  readonly ownAddresses: () => readonly string[]
  /** For name, connection and TLS of one hop together. */
  readonly connectMs: number
  /** For the head of an answer, and between two pieces of its body. */
  readonly idleMs: number
  /** PEM of the one authority that is trusted; undefined for the system's. */
  readonly authority: string | undefined
}

export interface GuardOptions {
  /** Throws Fault 'invalid' field 'allow' for one that is no host, address or range. */
  readonly allow: readonly string[]
  readonly lookup?: Lookup | undefined
  readonly connect?: Connect | undefined
  readonly ownAddresses?: (() => readonly string[]) | undefined
  readonly connectMs?: number | undefined
  readonly idleMs?: number | undefined
  readonly authority?: string | undefined
}

/** One question, or one message. `Host`, `Content-Length`, `Connection` and `Accept-Encoding` are ours to say. */
export type GuardedRequest = {
  readonly target: Target
  readonly headers: Readonly<Record<string, string>>
} & ({ readonly method: 'GET' } | { readonly method: 'POST'; readonly body: Buffer })

const CONNECT_MS_DEFAULT = 15_000
const IDLE_MS_DEFAULT = 60_000
const HEAD_BYTES_MAX = 16 * 1024
/** A name may have any number of addresses; nobody needs more tries. */
const ADDRESSES_MAX = 8

export function createGuard(options: GuardOptions): Guard {
  return {
    allowed: options.allow.map(parseAllowed),
    lookup: options.lookup,
    connect: options.connect,
    ownAddresses: options.ownAddresses ?? interfaceAddresses,
    connectMs: options.connectMs ?? CONNECT_MS_DEFAULT,
    idleMs: options.idleMs ?? IDLE_MS_DEFAULT,
    authority: options.authority,
  }
}

/** What can be told without asking for a name. Throws as `guardedRequest`. */
export function checkTarget(guard: Guard, { host, port }: Target): void {
  if (!isAllowedPort(guard.allowed, port))
    throw refuseAddress('Its port belongs to another protocol than HTTP.')
  if (host.is === 'address') requireReachable(guard, undefined, [host.address], port)
  // RFC 6761: such a name always means this host.
  else if (/(^|\.)localhost$/.test(host.name) && !isAllowedName(guard.allowed, host.name, port)) {
    throw refuseAddress()
  }
}

/**
 * The one way out: one request to one place on a connection of its own, whose every address was judged before, and
 * which is judged again once it stands and before a byte is sent. The name is asked for once; what is connected to are
 * the very numbers that were judged, so no second answer can come between. Follows no redirect, uses no proxy, keeps no
 * connection. Answers when the head is there; destroying the answer closes the connection.
 * Faults: 'invalid' 'request' reason 'address', or 'url' for a certificate that is not good; 'unavailable' 'file'.
 */
export async function guardedRequest(
  guard: Guard,
  guarded: GuardedRequest,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const { target, method, headers } = guarded
  const body = guarded.method === 'POST' ? guarded.body : undefined
  checkTarget(guard, target)
  const addresses = await resolve(guard, target, signal)
  const socket = await connectTo(target, addresses, guard, signal)
  const ask = request({
    createConnection: () => socket,
    method,
    path: `${target.url.pathname}${target.url.search}`,
    setHost: false,
    headers: {
      ...headers,
      ...(body === undefined ? {} : { 'Content-Length': String(body.length) }),
      ...{ Host: target.url.host, 'Accept-Encoding': 'identity', Connection: 'close' },
    },
    maxHeaderSize: HEAD_BYTES_MAX,
    insecureHTTPParser: false,
  })
  const head = new Promise<IncomingMessage>((resolve, reject) => {
    ask.once('response', resolve)
    ask.once('close', () => reject(new Error('closed')))
    // Stays: what breaks later reaches the reader of the body, and must not end the process here.
    ask.on('error', reject)
  })
  try {
    ask.end(body)
    const late = () => failed('The server did not answer in time. Try again later.')
    const answer = await within(guard.idleMs, signal, late, head)
    answer.on('error', () => {})
    answer.once('close', () => socket.destroy())
    return answer
  } catch (error) {
    socket.destroy()
    ask.destroy()
    if (error instanceof Fault || signal.aborted) throw error
    throw failed('The server gave no answer that could be understood.', { cause: causeOf(error) })
  }
}

/** The numbers that may be connected to. Answers that are not fit are left out; where none is left, that is the fault. */
async function resolve(
  guard: Guard,
  { host, port }: Target,
  signal: AbortSignal,
): Promise<readonly Address[]> {
  if (host.is === 'address') return requireReachable(guard, undefined, [host.address], port)
  const { name } = host
  const lookup = guard.lookup ?? (isAllowedName(guard.allowed, name, port) ? lookupAsHost : lookupInDns)
  const late = () => failed('The name of the server was not found in time. Try again later.')
  // Its own end, so that what waits for name servers stops with it.
  const end = new AbortController()
  try {
    const work = lookup(name, end.signal)
    const answers = await within(guard.connectMs, signal, late, work)
    const found = answers
      .map(({ address }) => parseAddress(address))
      .filter((address) => address !== undefined)
    return requireReachable(guard, name, found, port).slice(0, ADDRESSES_MAX)
  } catch (error) {
    if (error instanceof Fault || signal.aborted) throw error
    throw failed('The name of the server was not found. Check it, or try again later.', {
      cause: causeOf(error),
    })
  } finally {
    end.abort()
  }
}

function requireReachable(
  guard: Guard,
  name: string | undefined,
  addresses: readonly Address[],
  port: number,
): readonly Address[] {
  const own = guard.ownAddresses().map(parseAddress)
  const fit = addresses.filter((address) => {
    const isOwn = own.some((one) => one?.family === address.family && one.bits === address.bits)
    const kind = kindOf(address)
    return mayReach(guard.allowed, name, address, port, isOwn && kind === 'public' ? 'internal' : kind)
  })
  if (fit.length === 0) throw refuseAddress()
  return fit
}

/** Says nothing of what a name resolved to: that would be a look into the network behind us. */
export function refuseAddress(why = 'It is not a public one.'): Fault {
  return new Fault(
    'invalid',
    `This address may not be fetched from. ${why} Whoever runs this service can allow single internal addresses in its settings.`,
    { reason: 'address' },
  )
}

function interfaceAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address))
}
