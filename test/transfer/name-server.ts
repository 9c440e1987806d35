import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { parseAddress } from '../../src/intake/addresses.ts'
import type { PlaceOptions } from '../e2e/harness.ts'

const TYPE_A = 1
const HEAD_BYTES = 12

export interface NameServer {
  /** Of each question the name, as often as it was asked. */
  readonly asked: string[]
  /** A server that asks this name server, and no other, for names. */
  readonly wrapper: NonNullable<PlaceOptions['wrapper']>
}

/**
 * A name server on loopback that knows these addresses and nothing else. A server gets it as the system's own: in a mount
 * namespace in which the file that names name servers is another one.
 */
export async function startNameServer(
  t: TestContext,
  known: Readonly<Record<string, readonly string[]>>,
): Promise<NameServer> {
  const asked: string[] = []
  const socket = createSocket('udp4')
  socket.on('message', (query, from) => {
    const { name, type, end } = questionOf(query)
    asked.push(name)
    socket.send(answerOf(query.subarray(0, end), type, known[name]), from.port, from.address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  t.after(() => socket.close())
  // A port behind the address is c-ares' own addition; nobody has to be root for it.
  const address = `127.0.0.1:${socket.address().port}`
  const mount = 'echo "nameserver $1" > "$2" && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"'
  const namespaces = process.getuid?.() === 0 ? '-m' : '-rm'
  return {
    asked,
    wrapper: (data) => ['unshare', namespaces, 'sh', '-c', mount, 'sh', address, join(data, 'resolv.conf')],
  }
}

/** Source: RFC 1035, 4.1. */
function questionOf(query: Buffer): { readonly name: string; readonly type: number; readonly end: number } {
  const labels: string[] = []
  let at = HEAD_BYTES
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 }
}

function answerOf(question: Buffer, type: number, addresses: readonly string[] | undefined): Buffer {
  const bytes = (addresses ?? []).map(bytesOf).filter(({ length }) => (length === 4) === (type === TYPE_A))
  const head = Buffer.alloc(HEAD_BYTES)
  question.copy(head, 0, 0, 2)
  // An answer; 3: there is no such name.
  head.writeUInt16BE(addresses === undefined ? 0x8183 : 0x8180, 2)
  head.writeUInt16BE(1, 4)
  head.writeUInt16BE(bytes.length, 6)
  // Each for the name of the question, good for no time at all.
  const records = bytes.map((address) =>
    Buffer.concat([Buffer.from([0xc0, HEAD_BYTES, 0, type, 0, 1, 0, 0, 0, 0, 0, address.length]), address]),
  )
  return Buffer.concat([head, question.subarray(HEAD_BYTES), ...records])
}

function bytesOf(text: string): Buffer {
  const address = parseAddress(text)
  if (address === undefined) throw new Error(`${text} is no address`)
  // One that maps an IPv4 address is read as that; here it is meant as it stands.
  const isMapped = address.family === 4 && text.includes(':')
  const bits = isMapped ? (0xffffn << 32n) | address.bits : address.bits
  return Buffer.from(bits.toString(16).padStart(address.family === 4 && !isMapped ? 8 : 32, '0'), 'hex')
}
