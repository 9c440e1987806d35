import { randomUUID } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { signAcs3 } from '../wire/acs3.ts'
import type { Connection } from './connection.ts'
import { CommandFailure, EXIT, ServerRefusal } from './failure.ts'

export type Query = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>

/** Speaks to the native door (docs/api.md). Every call signs anew, so that a repeated one is no replay. */
export interface Client {
  /** Throws ServerRefusal for the server's own errors, CommandFailure 'unreachable' when it does not answer. */
  call<Answer>(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    parameters?: { query?: Query | undefined; body?: object | undefined },
  ): Promise<Answer>
}

// The longest wait that a request asks for is 50 s; a server that is silent for longer is not there.
const SILENCE_MS_MAX = 90_000

function queryText(query: Query): string {
  const pairs = Object.entries(query).flatMap(([name, value]) => {
    const values = Array.isArray(value) ? value : value === undefined ? [] : [value]
    return values.map((one) => `${name}=${encodeURIComponent(String(one))}`)
  })
  return pairs.length === 0 ? '' : `?${pairs.join('&')}`
}

interface Reply {
  readonly status: number
  readonly text: string
}

function send(url: URL, method: string, headers: Record<string, string>, body: Buffer): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
      method,
      headers: { ...headers, 'content-length': body.length },
      // One connection a call: a kept one may be closed by the server just when we use it.
      agent: false,
    })
    request.setTimeout(SILENCE_MS_MAX, () => request.destroy(new Error('it did not answer in time')))
    request.on('error', reject)
    request.on('response', (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') })
      })
    })
    request.end(body)
  })
}

export function createClient({ endpoint, keyId, secret }: Connection): Client {
  return {
    async call(method, path, { query = {}, body } = {}) {
      const url = new URL(path + queryText(query), endpoint)
      const bytes = Buffer.from(body === undefined ? '' : JSON.stringify(body))
      const headers = signAcs3({
        method,
        url: url.pathname + url.search,
        host: url.host,
        body: bytes,
        headers: body === undefined ? {} : { 'content-type': 'application/json' },
        keyId,
        secret,
        nonce: randomUUID(),
        nowMs: Date.now(),
      })
      const reply = await send(url, method, headers, bytes).catch((cause: NodeJS.ErrnoException) => {
        const why = cause.code ?? cause.message
        const message = `Cannot reach the server at ${endpoint.origin} (${why}). Is it running? Name another with --endpoint.`
        throw new CommandFailure(EXIT.unreachable, message, { cause })
      })
      let value: unknown
      try {
        value = JSON.parse(reply.text)
      } catch (cause) {
        const message = `${endpoint.origin} does not answer as a calotype server does (HTTP ${reply.status}). Check --endpoint.`
        throw new CommandFailure(EXIT.unreachable, message, { cause })
      }
      if (reply.status >= 200 && reply.status < 300) return value as never
      const { error } = value as { error?: { kind: string; message: string; requestId?: string } }
      throw new ServerRefusal(
        reply.status,
        error ?? { kind: 'unknown', message: `The server answered HTTP ${reply.status}.` },
      )
    },
  }
}
