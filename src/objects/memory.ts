import { Fault } from '../image/fault.ts'
import type { ObjectStore } from './contract.ts'
import type { ObjectName } from './names.ts'

/** Objects in this process's memory, for tests and simulations: as safe as the process. */
export class MemoryObjects implements ObjectStore {
  readonly traits = { callsMax: 64, listLagMs: 0 }
  readonly #objects = new Map<ObjectName, Buffer>()

  async put(name: ObjectName, bytes: Uint8Array, signal?: AbortSignal): Promise<'stored' | 'present'> {
    signal?.throwIfAborted()
    if (this.#objects.has(name)) return 'present'
    this.#objects.set(name, Buffer.from(bytes))
    return 'stored'
  }

  async get(name: ObjectName, offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    signal?.throwIfAborted()
    const object = this.#objects.get(name)
    if (object === undefined) throw new Fault('absent', `There is no object ${name}.`, { subject: 'store' })
    if (offset + lengthBytes > object.length) {
      throw new Fault('corrupt', `Object ${name} is shorter than it should be.`, { subject: 'store' })
    }
    return Buffer.from(object.subarray(offset, offset + lengthBytes))
  }

  async size(name: ObjectName, signal?: AbortSignal): Promise<number | undefined> {
    signal?.throwIfAborted()
    return this.#objects.get(name)?.length
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncIterable<ObjectName> {
    for (const name of [...this.#objects.keys()]) {
      signal?.throwIfAborted()
      if (name.startsWith(prefix)) yield name
    }
  }

  async remove(name: ObjectName, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    this.#objects.delete(name)
  }
}
