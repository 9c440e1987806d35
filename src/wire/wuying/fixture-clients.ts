import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Bench } from './fixture.ts'

export type Answer = Record<string, unknown>

/** Texts with every character that a signature could go wrong at. */
export const NAMES = {
  RegionId: 'cn-hangzhou',
  ImageName: '镜像:v1_a-b',
  Description: "a b+c&d=e/f?g~h*i(j)k!l'm%20n é😀",
}

export interface ServedBench {
  /** What a client takes for its endpoint. */
  readonly host: string
  close(): void
}

/** The door of `bench` behind a bare HTTP server, at the clock of the machine, as the clients sign. */
export async function serveBench(bench: Bench): Promise<ServedBench> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    bench.nowMs = Date.now()
    const answer = await bench.door.handle({
      method: request.method ?? '',
      url: request.url ?? '',
      headers: request.headers,
      body: Buffer.concat(chunks),
      sourceIp: '127.0.0.1',
      secureTransport: false,
      requestId: randomUUID().toUpperCase(),
      signal: new AbortController().signal,
    })
    response.writeHead(answer.status, answer.headers).end(answer.body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
}
