import assert from 'node:assert/strict'
import { createHash, createHmac, randomUUID } from 'node:crypto'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import type { KeyPair } from '../../demo/clients.ts'
import { ROOT } from '../../demo/server.ts'
import { signAcs3 } from '../../src/wire/acs3.ts'

/** One request as bytes will carry it. */
export interface Sent {
  readonly method: string
  /** Path and query, percent-encoded. */
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  readonly json: Readonly<Record<string, unknown>>
}

export type Flat = Readonly<Record<string, string>>
/** `undefined` takes a parameter or header out before the request is signed. */
export type Change = Readonly<Record<string, string | undefined>>
export type Door = 'wuying' | 'uhost' | 'native'

const FORM = 'application/x-www-form-urlencoded'

function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
}

export function formText(pairs: Iterable<readonly [string, string]>): string {
  return [...pairs].map(([name, value]) => `${encode(name)}=${encode(value)}`).join('&')
}

function applied(values: Flat, change: Change): Map<string, string> {
  const all = new Map(Object.entries(values))
  for (const [name, value] of Object.entries(change)) {
    if (value === undefined) all.delete(name)
    else all.set(name, value)
  }
  return all
}

/** A form or a query that holds these, by the method. */
export function carrying(method: string, pairs: Iterable<readonly [string, string]>): Sent {
  const text = formText(pairs)
  return method === 'GET'
    ? { method, url: `/?${text}`, headers: {}, body: Buffer.alloc(0) }
    : { method, url: '/', headers: { 'content-type': FORM }, body: Buffer.from(text) }
}

/** WUYING, the older scheme. Written from the cloud's description, not with the server's own code. */
export function signedV1(
  key: KeyPair,
  action: string,
  parameters: Flat,
  options: { method?: 'GET' | 'POST'; nowMs?: number; change?: Change } = {},
): Sent {
  const method = options.method ?? 'POST'
  const all = applied(
    {
      Action: action,
      Version: '2020-09-30',
      Format: 'JSON',
      AccessKeyId: key.accessKeyId,
      Timestamp: new Date(options.nowMs ?? Date.now()).toISOString().replace(/\.\d+Z$/, 'Z'),
      SignatureMethod: 'HMAC-SHA1',
      SignatureVersion: '1.0',
      SignatureNonce: randomUUID(),
      ...parameters,
    },
    options.change ?? {},
  )
  const sorted = [...all].sort(([a], [b]) => (a < b ? -1 : 1))
  const text = `${method}&%2F&${encode(formText(sorted))}`
  const signature = createHmac('sha1', `${key.accessKeySecret}&`).update(text).digest('base64')
  return carrying(method, [...all, ['Signature', signature] as const])
}

/** WUYING, the newer scheme; the native door with a path of its own. */
export function signedV3(
  endpoint: URL,
  key: KeyPair,
  draft: {
    method: string
    url: string
    body?: Buffer
    headers?: Record<string, string>
    nowMs?: number
    nonce?: string
  },
): Sent {
  const body = draft.body ?? Buffer.alloc(0)
  const headers = signAcs3({
    method: draft.method,
    url: draft.url,
    host: endpoint.host,
    body,
    headers: draft.headers ?? {},
    keyId: key.accessKeyId,
    secret: key.accessKeySecret,
    nonce: draft.nonce ?? randomUUID(),
    nowMs: draft.nowMs ?? Date.now(),
  })
  return { method: draft.method, url: draft.url, headers, body }
}

export function wuyingV3(
  endpoint: URL,
  key: KeyPair,
  action: string,
  parameters: Flat,
  rest: { nowMs?: number; nonce?: string; version?: string } = {},
): Sent {
  return signedV3(endpoint, key, {
    method: 'POST',
    url: `/?${formText(Object.entries(parameters))}`,
    headers: { 'x-acs-action': action, 'x-acs-version': rest.version ?? '2020-09-30' },
    ...rest,
  })
}

export function signedUhost(
  key: KeyPair,
  action: string,
  parameters: Flat,
  options: { method?: 'GET' | 'POST'; change?: Change } = {},
): Sent {
  const all = applied(
    { Action: action, PublicKey: key.accessKeyId, ...parameters },
    { ...options.change, Signature: undefined },
  )
  const bytes = (text: string) => Buffer.from(text, 'utf8')
  const sorted = [...all].sort(([a], [b]) => Buffer.compare(bytes(a), bytes(b)))
  const text = sorted.map(([name, value]) => name + value).join('') + key.accessKeySecret
  const signature = createHash('sha1').update(text).digest('hex')
  return carrying(options.method ?? 'POST', [...all, ['Signature', signature] as const])
}

export function signedNative(
  endpoint: URL,
  key: KeyPair,
  method: string,
  path: string,
  given: { query?: Flat | undefined; body?: unknown } = {},
  rest: { nowMs?: number; nonce?: string } = {},
): Sent {
  const query = formText(Object.entries(given.query ?? {}))
  const body = given.body === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(given.body))
  return signedV3(endpoint, key, { method, url: query === '' ? path : `${path}?${query}`, body, ...rest })
}

/** What no answer may hold, whatever was asked: pages, stacks, places on the server's disk, secrets. */
export function assertDecent(answer: Pick<Answer, 'headers' | 'text'>, secrets: readonly string[]): void {
  assert.match(String(answer.headers['content-type']), /^application\/json/, answer.text)
  assert.doesNotMatch(answer.text, /<html|<!doctype|\bat \S+ \(|node:internal|\.ts:\d|\.js:\d/i)
  for (const text of [ROOT, ...secrets]) assert.ok(!answer.text.includes(text), `the answer holds '${text}'`)
}

/** Throws unless the answer is in the envelope of its door, refusal or not. */
export function assertEnvelope(door: Door, answer: Answer): void {
  const { json, status } = answer
  switch (door) {
    case 'wuying':
      assert.match(String(json.RequestId), /^[0-9A-F-]{36}$/)
      assert.equal(json.Code !== undefined, status !== 200, answer.text)
      if (status === 200) return
      assert.match(String(json.Code), /^[A-Za-z][A-Za-z0-9.-]*$/)
      assert.ok(String(json.Message).length > 10 && json.HostId !== undefined, answer.text)
      return
    case 'uhost':
      assert.equal(status, 200)
      assert.equal(typeof json.RetCode, 'number', answer.text)
      if (json.RetCode !== 0) assert.ok(String(json.Message).length > 10, answer.text)
      return
    case 'native': {
      if (status < 300) return
      const { error } = json as { error?: { kind?: string; message?: string; requestId?: string } }
      assert.match(String(error?.requestId), /^[0-9A-F-]{36}$/)
      assert.ok(typeof error?.kind === 'string' && String(error.message).length > 10, answer.text)
      return
    }
    default:
      door satisfies never
  }
}

export interface Wire {
  /** Sends it as it is; every answer is checked to be decent. */
  send(sent: Sent): Promise<Answer>
  close(): void
}

export function openWire(endpoint: URL, secrets: readonly string[]): Wire {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 })
  return {
    send: (sent) =>
      new Promise((resolve, reject) => {
        const outgoing = request({
          agent,
          host: endpoint.hostname,
          port: endpoint.port,
          method: sent.method,
          path: sent.url,
          headers: { ...sent.headers, 'content-length': sent.body.length },
        })
        outgoing.on('error', reject)
        outgoing.on('response', (response) => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.on('error', reject)
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString('utf8')
            try {
              assertDecent({ headers: response.headers, text }, secrets)
              const json = JSON.parse(text) as Record<string, unknown>
              resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json })
            } catch (error) {
              reject(error)
            }
          })
        })
        outgoing.end(sent.body)
      }),
    close: () => agent.destroy(),
  }
}
