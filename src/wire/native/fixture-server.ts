import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { createGateway, type Gateway, type GatewayOptions } from '../gateway.ts'
import type { GatewayRecord } from '../gateway-contract.ts'
import { createNativeDoor } from './door.ts'
import { createFakeApp, type FakeApp } from './fixture.ts'
import { NOW_MS } from './fixture-nouns.ts'
import { signedRequest } from './fixture-request.ts'

export interface Said {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  json(): ReturnType<typeof JSON.parse>
}

export interface NativeServer {
  readonly fake: FakeApp
  readonly gateway: Gateway
  readonly url: string
  readonly port: number
  /** Host and port, as clients sign them. */
  readonly host: string
  readonly records: GatewayRecord[]
  readonly bugs: unknown[]
  /** A request as it is, on a connection of its own. */
  ask(method: string, path: string, headers?: Record<string, string>, body?: string | Buffer): Promise<Said>
  /** As `ask`, signed; a body that is no Buffer is sent as JSON. */
  askSigned(method: string, path: string, body?: unknown): Promise<Said>
  /** Until the log has so many records: an answer may be read before its record is written. */
  logged(count: number): Promise<void>
}

/** Gateway and native door on a socket, over an App in memory whose time stands still. */
export async function startNative(options: Partial<GatewayOptions> = {}): Promise<NativeServer> {
  const fake = createFakeApp()
  const records: GatewayRecord[] = []
  const bugs: unknown[] = []
  const native = createNativeDoor({
    app: fake.app,
    keyring: fake.keyring,
    clock: () => NOW_MS,
    clockWindowMs: 60_000,
    onBug: (error) => bugs.push(error),
  })
  const log = (record: GatewayRecord) => void records.push(record)
  const gateway = createGateway({ doors: { native }, log, closeGraceMs: 1, ...options })
  const { url, port } = await gateway.listen('127.0.0.1', 0)
  const host = `127.0.0.1:${port}`

  const ask: NativeServer['ask'] = (method, path, headers = {}, body = '') =>
    new Promise((resolve, reject) => {
      const length = { 'content-length': String(Buffer.byteLength(body)) }
      const hasBody = body.length > 0 || !['GET', 'HEAD'].includes(method)
      const request = httpRequest({
        ...{ host: '127.0.0.1', port, method, path, agent: false },
        headers: { host, ...(hasBody ? length : {}), ...headers },
      })
      request.on('error', reject)
      request.on('response', async (response) => {
        try {
          const chunks: Buffer[] = []
          for await (const chunk of response) chunks.push(chunk as Buffer)
          const bytes = Buffer.concat(chunks)
          const { statusCode = 0, headers } = response
          resolve({
            status: statusCode,
            headers,
            body: bytes,
            json: () => JSON.parse(bytes.toString()),
          })
        } catch (error) {
          reject(error)
        }
      })
      request.end(body)
    })

  return {
    ...{ fake, gateway, url, port, host, records, bugs, ask },
    askSigned(method, path, body) {
      const signed = signedRequest(method, path, body, { host })
      return ask(method, path, signed.headers as Record<string, string>, signed.body)
    },
    async logged(count) {
      while (records.length < count) await new Promise((resolve) => setImmediate(resolve))
    },
  }
}
