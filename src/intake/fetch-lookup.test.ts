import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type TestContext, test } from 'node:test'
import { formatAddress, parseAddress } from './addresses.ts'
import { lookupAsHost, lookupAt } from './fetch-lookup.ts'

const never = new AbortController().signal
const TYPE_A = 1

/** A name server that knows these addresses and nothing else; with `undefined` it never answers. */
async function serve(t: TestContext, known: Readonly<Record<string, readonly string[]>> | undefined) {
  const asked: string[] = []
  const socket = createSocket('udp4')
  socket.on('message', (query, from) => {
    const { name, type, end } = questionOf(query)
    asked.push(`${type === TYPE_A ? 'A' : 'AAAA'} ${name}`)
    if (known === undefined) return
    const addresses = known[name]
    const bytes = (addresses ?? []).map(bytesOf).filter(({ length }) => (length === 4) === (type === TYPE_A))
    // Source: RFC 1035, 4.1. 0x8180: an answer; 3: there is no such name.
    const head = Buffer.alloc(12)
    query.copy(head, 0, 0, 2)
    head.writeUInt16BE(addresses === undefined ? 0x8183 : 0x8180, 2)
    head.writeUInt16BE(1, 4)
    head.writeUInt16BE(bytes.length, 6)
    const records = bytes.map((address) => {
      const record = Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 0, 0, address.length])
      return Buffer.concat([record, address])
    })
    socket.send(Buffer.concat([head, query.subarray(12, end), ...records]), from.port, from.address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  t.after(() => socket.close())
  return { asked, servers: [`127.0.0.1:${socket.address().port}`] }
}

function questionOf(query: Buffer) {
  const labels: string[] = []
  let at = 12
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 }
}

function bytesOf(text: string): Buffer {
  const address = parseAddress(text)
  assert.ok(address !== undefined)
  return Buffer.from(address.bits.toString(16).padStart(address.family === 4 ? 8 : 32, '0'), 'hex')
}

test('lookup: every address of a name, the older kind first', async (t) => {
  const { servers } = await serve(t, {
    'both.example': ['2606:2800::1', '93.184.215.14', '93.184.215.15'],
    'four.example': ['93.184.215.14'],
    'six.example': ['2606:2800::1'],
  })
  const ask = async (name: string) =>
    (await lookupAt(servers, name, never)).map(({ address }) =>
      formatAddress(parseAddress(address) ?? assert.fail()),
    )
  assert.deepEqual(await ask('both.example'), ['93.184.215.14', '93.184.215.15', '2606:2800:0:0:0:0:0:1'])
  assert.deepEqual(await ask('four.example'), ['93.184.215.14'])
  assert.deepEqual(await ask('six.example'), ['2606:2800:0:0:0:0:0:1'])
  await assert.rejects(ask('none.example'), { code: 'ENOTFOUND' })
})

test('lookup: names of strangers are asked of name servers, not of this host', async (t) => {
  const { servers, asked } = await serve(t, {})
  await assert.rejects(lookupAt(servers, 'localhost.example', never), { code: 'ENOTFOUND' })
  assert.deepEqual(asked.sort(), ['A localhost.example', 'AAAA localhost.example'])
  assert.ok((await lookupAsHost('localhost', never)).some(({ address }) => address === '127.0.0.1'))
})

test('lookup: an end while servers are silent', async (t) => {
  const { servers, asked } = await serve(t, undefined)
  const abort = new AbortController()
  const looking = lookupAt(servers, 'slow.example', abort.signal)
  looking.catch(() => {})
  while (asked.length < 2) await new Promise((resolve) => setImmediate(resolve))
  abort.abort()
  await assert.rejects(looking, { code: 'ECANCELLED' })
})
