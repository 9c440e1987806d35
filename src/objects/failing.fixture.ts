import { Fault } from '../image/fault.ts'
import type { ObjectStore } from './contract.ts'
import type { ObjectName } from './names.ts'

/** A store whose disk is full from the `failAt`th put on (counted from 0). */
export class FillingObjects implements ObjectStore {
  readonly #inner: ObjectStore
  readonly #failAt: number
  putCount = 0

  constructor(inner: ObjectStore, failAt: number) {
    this.#inner = inner
    this.#failAt = failAt
  }

  get traits() {
    return this.#inner.traits
  }

  async put(name: ObjectName, bytes: Uint8Array, signal?: AbortSignal): Promise<'stored' | 'present'> {
    if (this.putCount++ >= this.#failAt) throw new Fault('full', 'The store is full.', { subject: 'store' })
    return this.#inner.put(name, bytes, signal)
  }

  get(name: ObjectName, offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    return this.#inner.get(name, offset, lengthBytes, signal)
  }

  size(name: ObjectName, signal?: AbortSignal): Promise<number | undefined> {
    return this.#inner.size(name, signal)
  }

  list(prefix: string, signal?: AbortSignal): AsyncIterable<ObjectName> {
    return this.#inner.list(prefix, signal)
  }

  remove(name: ObjectName, signal?: AbortSignal): Promise<void> {
    return this.#inner.remove(name, signal)
  }
}
