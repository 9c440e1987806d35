import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A request on its way to the server. */
export interface Passing {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
  /** How many of this method there were before it. */
  readonly index: number
  /** Of the caller: equal for requests over the same connection. */
  readonly port: number | undefined
}

export type Trouble =
  /** The connection breaks, before the server has heard anything, or once it has done all it was asked. */
  | { readonly is: 'cut'; readonly when: 'before' | 'after' }
  /** The answer breaks off after so many bytes. */
  | { readonly is: 'cut-answer'; readonly afterBytes: number }
  | { readonly is: 'answer'; readonly status: number; readonly text?: string }
  /** A byte of the request's body, or of the answer's, is another. */
  | { readonly is: 'damage'; readonly what: 'request' | 'answer' }
  | { readonly is: 'drop-header'; readonly name: string }

export interface TestProxy {
  readonly url: string
  /** Every request that came, in order. */
  readonly passed: Passing[]
  /** What happens to a request; nothing by itself. */
  trouble: (passing: Passing) => Trouble | undefined | Promise<Trouble | undefined>
  close(): Promise<void>
}

/** Stands between the command line and a server, and makes trouble as it is told. */
export async function startProxy(target: string): Promise<TestProxy> {
  const counts = new Map<string, number>()
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const method = request.method ?? ''
    const index = counts.get(method) ?? 0
    counts.set(method, index + 1)
    const body = Buffer.concat(chunks)
    const { remotePort: port } = request.socket
    const passing = { method, path: request.url ?? '', headers: request.headers, body, index, port }
    proxy.passed.push(passing)
    await pass(target, passing, await proxy.trouble(passing), response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const proxy: TestProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    passed: [],
    trouble: () => undefined,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  return proxy
}

async function pass(
  target: string,
  { method, path, headers, body }: Passing,
  trouble: Trouble | undefined,
  response: ServerResponse,
): Promise<void> {
  if (trouble?.is === 'cut' && trouble.when === 'before') return void response.destroy()
  if (trouble?.is === 'answer') return void response.writeHead(trouble.status).end(trouble.text)
  const isDamaged = trouble?.is === 'damage'
  const answer = await forward(target, method, path, headers, {
    body: isDamaged && trouble.what === 'request' ? damaged(body) : body,
  })
  if (trouble?.is === 'cut') return void response.destroy()
  if (trouble?.is === 'drop-header') delete answer.headers[trouble.name]
  response.writeHead(answer.status, answer.headers)
  if (trouble?.is === 'cut-answer') {
    response.write(answer.body.subarray(0, trouble.afterBytes), () => response.destroy())
    return
  }
  response.end(isDamaged && trouble.what === 'answer' ? damaged(answer.body) : answer.body)
}

function damaged(bytes: Buffer): Buffer {
  const other = Buffer.from(bytes)
  other[0] = (other[0] ?? 0) ^ 1
  return other
}

function forward(
  target: string,
  method: string,
  path: string,
  headers: IncomingMessage['headers'],
  { body }: { readonly body: Buffer },
): Promise<{ status: number; headers: IncomingMessage['headers']; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(new URL(path, target), { method, headers, agent: false }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => {
        const { 'transfer-encoding': _chunked, ...kept } = response.headers
        resolve({ status: response.statusCode ?? 0, headers: kept, body: Buffer.concat(chunks) })
      })
    })
    request.on('error', reject)
    request.end(body)
  })
}
