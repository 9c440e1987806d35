import { randomUUID } from 'node:crypto'
import { signAcs3 } from '../wire/acs3.ts'
import type { Connection } from './connection.ts'
import { CommandFailure, EXIT } from './failure.ts'
import { exchange, readAll, refusalOf } from './http.ts'

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

export function queryText(query: Query): string {
  const pairs = Object.entries(query).flatMap(([name, value]) => {
    const values = Array.isArray(value) ? value : value === undefined ? [] : [value]
    return values.map((one) => `${name}=${encodeURIComponent(String(one))}`)
  })
  return pairs.length === 0 ? '' : `?${pairs.join('&')}`
}

/** The headers of one request to our API: `headers`, and those that say who asks. Good once. */
export function signedHeaders(
  { keyId, secret }: Connection,
  method: string,
  url: URL,
  body: Uint8Array,
  headers: Readonly<Record<string, string>>,
): Record<string, string> {
  return signAcs3({
    ...{ method, url: url.pathname + url.search, host: url.host, body, headers, keyId, secret },
    ...{ nonce: randomUUID(), nowMs: Date.now() },
  })
}

export function createClient(connection: Connection): Client {
  const { endpoint } = connection
  return {
    async call(method, path, { query = {}, body } = {}) {
      const url = new URL(path + queryText(query), endpoint)
      const bytes = Buffer.from(body === undefined ? '' : JSON.stringify(body))
      const type: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' }
      const headers = signedHeaders(connection, method, url, bytes, type)
      const reply = await exchange({ url, method, headers, body: bytes })
      const text = (await readAll(reply)).toString('utf8')
      let value: unknown
      try {
        value = JSON.parse(text)
      } catch (cause) {
        const message = `${endpoint.origin} does not answer as a calotype server does (HTTP ${reply.status}). Check --endpoint.`
        throw new CommandFailure(EXIT.unreachable, message, { cause })
      }
      if (reply.status >= 200 && reply.status < 300) return value as never
      const { error } = value as { error?: { kind: string; message: string; requestId?: string } }
      throw refusalOf(reply.status, error)
    },
  }
}
