import { createServer } from 'node:http'
import { parentPort, workerData } from 'node:worker_threads'

/** Stands in for the thread of the endpoint: it dies at every request, and at its second start. */
export interface DyingThreadData {
  readonly listen: { readonly host: string; readonly port: number }
  /** How often it was started. */
  readonly startCount: Int32Array
}

const { listen, startCount } = workerData as DyingThreadData
if (Atomics.add(startCount, 0, 1) === 1) throw new Error('not yet')
const server = createServer((_request, response) => {
  response.end('seen', () => setImmediate(() => process.exit(1)))
})
server.listen(listen.port, listen.host, () => {
  const address = server.address() as { port: number }
  parentPort?.postMessage({ is: 'ready', url: `http://${listen.host}:${address.port}` })
})
parentPort?.on('message', () => process.exit())
