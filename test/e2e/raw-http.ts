import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { type Answer, assertDecent, type Sent } from './wire.ts'

/** A request as it stands on the line, with `Connection: close` unless another one follows. */
export function lines(sent: Sent, more: readonly string[] = [], isLast = true): Buffer {
  const headers = Object.entries({ host: 'localhost', ...sent.headers }).map(
    ([name, value]) => `${name}: ${value}`,
  )
  const all = [
    `${sent.method} ${sent.url} HTTP/1.1`,
    ...headers,
    `content-length: ${sent.body.length}`,
    ...(isLast ? ['connection: close'] : []),
    ...more,
  ]
  return Buffer.concat([Buffer.from(`${all.join('\r\n')}\r\n\r\n`, 'latin1'), sent.body])
}

/** As `lines`, in chunks. */
export function chunked(sent: Sent, chunkBytes: number): Buffer {
  const head = lines({ ...sent, body: Buffer.alloc(0) }).toString('latin1')
  const parts: Buffer[] = [
    Buffer.from(head.replace('content-length: 0', 'transfer-encoding: chunked'), 'latin1'),
  ]
  for (let at = 0; at < sent.body.length; at += chunkBytes) {
    const part = sent.body.subarray(at, at + chunkBytes)
    parts.push(Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n'))
  }
  return Buffer.concat([...parts, Buffer.from('0\r\n\r\n')])
}

/** Sends bytes as they are and reads all answers until the server ends the connection. */
export async function talk(
  endpoint: URL,
  bytes: Buffer | string,
  secrets: readonly string[],
  end: 'keep open' | 'half close' = 'keep open',
): Promise<Answer[]> {
  const socket = connect(Number(endpoint.port), endpoint.hostname)
  const got: Buffer[] = []
  await new Promise<void>((resolve) => {
    socket.on('data', (chunk: Buffer) => got.push(chunk))
    // A server that has refused what we still send may reset the connection; its answer came before.
    socket.on('error', () => {})
    socket.on('close', () => resolve())
    socket.write(bytes, () => {
      if (end === 'half close') socket.end()
    })
  })
  return parseAnswers(Buffer.concat(got), secrets)
}

function parseAnswers(bytes: Buffer, secrets: readonly string[]): Answer[] {
  const answers: Answer[] = []
  let rest = bytes
  while (rest.length > 0) {
    const headEnd = rest.indexOf('\r\n\r\n')
    assert(headEnd > 0, `this is no HTTP answer: ${rest.toString('latin1').slice(0, 200)}`)
    const [first = '', ...fields] = rest.subarray(0, headEnd).toString('latin1').split('\r\n')
    if (first.startsWith('HTTP/1.1 100')) {
      rest = rest.subarray(headEnd + 4)
      continue
    }
    const headers = Object.fromEntries(
      fields.map((field) => [
        field.slice(0, field.indexOf(':')).toLowerCase(),
        field.slice(field.indexOf(':') + 1).trim(),
      ]),
    )
    const bodyEnd = headEnd + 4 + Number(headers['content-length'])
    const text = rest.subarray(headEnd + 4, bodyEnd).toString('utf8')
    assertDecent({ headers, text }, secrets)
    answers.push({ status: Number(first.split(' ')[1]), headers, text, json: JSON.parse(text) })
    rest = rest.subarray(bodyEnd)
  }
  return answers
}
