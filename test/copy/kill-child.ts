import { openSync, writeSync } from 'node:fs'
import type { ObjectStore } from '../../src/objects/contract.ts'
import { servePeers } from '../../src/peers/endpoint.ts'
import { IndexDatabase } from '../../src/store/database.ts'
import { pullImage } from '../../src/store/pull.ts'
import { type Death, type Order, openStore, RANGE_BYTES, REGION, SESSION, type Word } from './kill-world.ts'

let death: Death = { atCall: 0, when: 'before', delayMs: 0 }
let callCount = 0

const die = () => process.kill(process.pid, 'SIGKILL')
const say = (word: Word) => process.send?.(word)

/** Counts one call. Nothing is closed, flushed or told by whoever dies. */
function begin(): () => void {
  if (++callCount !== death.atCall) return () => {}
  if (death.when === 'before') die()
  if (death.when === 'during') setTimeout(die, death.delayMs)
  return death.when === 'after' ? die : () => {}
}

const { transaction } = IndexDatabase.prototype
IndexDatabase.prototype.transaction = function <Result>(
  this: IndexDatabase,
  body: () => Result,
  isDurable = false,
): Result {
  const end = begin()
  const result = transaction.call(this, body, isDurable) as Result
  end()
  return result
}

function counted(
  inner: ObjectStore,
  onRead: (name: string, lengthBytes: number) => void = () => {},
): ObjectStore {
  const around = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    const end = begin()
    const result = await work()
    end()
    return result
  }
  const { getInto } = inner
  return {
    traits: inner.traits,
    put: (name, bytes, signal) => around(() => inner.put(name, bytes, signal)),
    get: (name, offset, lengthBytes, signal) => {
      onRead(name, lengthBytes)
      return around(() => inner.get(name, offset, lengthBytes, signal))
    },
    ...(getInto === undefined
      ? {}
      : {
          getInto: (name, offset, target, signal) => {
            onRead(name, target.length)
            return around(() => getInto.call(inner, name, offset, target, signal))
          },
        }),
    size: (name, signal) => inner.size(name, signal),
    list: (prefix, signal) => inner.list(prefix, signal),
    remove: (name, signal) => around(() => inner.remove(name, signal)),
  }
}

async function pull({ folder, digest, takesPacks, notePath }: Extract<Order, { is: 'pull' }>): Promise<void> {
  const note = openSync(notePath, 'w')
  let askedBytes = 0
  const onRead = (name: string, lengthBytes: number) => {
    if (!name.startsWith('packs/')) return
    askedBytes += lengthBytes
    writeSync(note, String(askedBytes), 0)
  }
  const source = await openStore(folder, 'source', { wrap: (objects) => counted(objects, onRead) })
  const target = await openStore(folder, 'target', { wrap: (objects) => counted(objects) })
  const ref = { holder: SESSION, label: {} }
  const limits = { rangeBytesMax: RANGE_BYTES }
  await pullImage({ source, target, digest, sessionId: SESSION, ref, check: 'seal', takesPacks, limits })
  for (const region of [source, target]) region.close()
}

async function serve({
  folder,
  port,
  identity,
  fingerprint,
}: Extract<Order, { is: 'serve' }>): Promise<void> {
  const region = await openStore(folder, 'source', { wrap: (objects) => counted(objects) })
  const reader = { name: 'us', projects: 'all', regions: [REGION] } as const
  const { url } = await servePeers({
    listen: { host: '127.0.0.1', port },
    identity,
    parts: {
      reader: (shown) => (shown === fingerprint ? reader : undefined),
      regionIds: [REGION],
      region: async () => region,
      image: () => Promise.reject(new Error('nobody asks for images here')),
      mayRead: async () => true,
    },
  })
  say({ is: 'listening', url })
}

process.once('message', async (order: Order) => {
  death = order.death
  if (order.is === 'serve') return serve(order)
  await pull(order)
  say({ is: 'done', callCount })
  process.disconnect?.()
})
say({ is: 'ready' })
