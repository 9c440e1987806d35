import { setPriority } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { signedHeaders } from '../../src/cli/client.ts'
import { exchange, readAll } from '../../src/cli/http.ts'
import type { CallerNews, CallerOrder } from './list-caller.ts'

/** Between two calls, so that asking is no load of its own. */
const PAUSE_MS = 2
const NONE = new Uint8Array()

/** Milliseconds of one call, over a connection that stays open. */
async function callMs({ endpoint, keyId, secret, path }: CallerOrder): Promise<number> {
  const url = new URL(path, endpoint)
  const startMs = performance.now()
  const headers = signedHeaders({ endpoint: url, keyId, secret }, 'GET', url, NONE, {})
  const reply = await exchange({ url, method: 'GET', headers, isRepeatable: true })
  const text = (await readAll(reply)).toString()
  const tookMs = performance.now() - startMs
  if (reply.status !== 200) throw new Error(`${path} was answered with ${reply.status}: ${text}`)
  return tookMs
}

// A client on another machine would not wait for the processors of this one. Where we may not, we wait as everybody.
try {
  setPriority(-10)
} catch {}

process.once('message', async (order: CallerOrder) => {
  for (;;) {
    process.send?.({ tookMs: await callMs(order) } satisfies CallerNews)
    await delay(PAUSE_MS)
  }
})
process.once('disconnect', () => process.exit())
