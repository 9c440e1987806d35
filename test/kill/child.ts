import { join } from 'node:path'
import type { ObjectStore } from '../../src/objects/contract.ts'
import { openDirectoryObjects } from '../../src/objects/directory.ts'
import { IndexDatabase } from '../../src/store/database.ts'
import { type Command, openRegion, run } from './story.ts'

/** What the parent sends once: the command to do, and the call after or before which this process is to die. */
export interface Order {
  readonly folder: string
  readonly command: Command
  readonly dieAt: number
  readonly isAfter: boolean
}

let order: Order | undefined
let callCount = 0

/** Counts one call of the object store or one transaction, and dies at its time. Nothing is closed, flushed or told. */
function step(isAfter: boolean): void {
  if (order === undefined) return
  if (!isAfter) callCount++
  if (callCount === order.dieAt && isAfter === order.isAfter) process.kill(process.pid, 'SIGKILL')
}

const { transaction } = IndexDatabase.prototype
IndexDatabase.prototype.transaction = function <Result>(
  this: IndexDatabase,
  body: () => Result,
  isDurable = false,
): Result {
  step(false)
  const result = transaction.call(this, body, isDurable) as Result
  step(true)
  return result
}

function counted(inner: ObjectStore): ObjectStore {
  const around = async <Result>(call: Promise<Result>): Promise<Result> => {
    const result = await call
    step(true)
    return result
  }
  return {
    traits: inner.traits,
    put: (name, bytes, signal) => {
      step(false)
      return around(inner.put(name, bytes, signal))
    },
    get: (name, offset, lengthBytes, signal) => {
      step(false)
      return around(inner.get(name, offset, lengthBytes, signal))
    },
    size: (name, signal) => {
      step(false)
      return around(inner.size(name, signal))
    },
    list: (prefix, signal) => {
      step(false)
      return inner.list(prefix, signal)
    },
    remove: (name, signal) => {
      step(false)
      return around(inner.remove(name, signal))
    },
  }
}

process.once('message', async (message: Order) => {
  const open = async (number: number) => {
    const folder = join(message.folder, `region${number}`)
    const objects = counted(await openDirectoryObjects({ folder, clean: false }))
    return openRegion(objects, join(message.folder, `index${number}.sqlite`), number)
  }
  const regions = [await open(0), await open(1)] as const
  order = message
  await run(regions, message.command)
  process.send?.(callCount)
  process.disconnect?.()
})
process.send?.('ready')
