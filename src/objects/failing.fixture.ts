import { Fault } from '../image/fault.ts'
import type { ObjectStore } from './contract.ts'
import type { ObjectName } from './names.ts'

/**
 * What may befall a call:
 * - unavailable: Fault 'unavailable', nothing was done · lost: it was done, and the answer is Fault 'unavailable'
 * - full: a put ends in Fault 'full', nothing was done · hanging: nothing happens until the signal fires
 * - truncated: a get is Fault 'corrupt', as of an object that is too short · flipped: one bit of a get's answer differs
 * - stale: a list misses what was put, and shows what was removed, since `settle` was called last (or ever)
 * One that does not fit the call's kind lets the call pass.
 */
export type Trouble = 'unavailable' | 'lost' | 'full' | 'hanging' | 'truncated' | 'flipped' | 'stale'
export type CallKind = 'put' | 'get' | 'size' | 'list' | 'remove'

export interface Call {
  readonly kind: CallKind
  /** The object's name, of a list the prefix. */
  readonly name: string
  /** Counted from 0: over all calls, and over those of this kind. */
  readonly number: number
  readonly numberOfKind: number
}

/** Asked once for each call. */
export type Plan = (call: Call) => Trouble | undefined

/** Trouble for the nth call alone (from 0), of one kind if that is given. */
export function onCall(nth: number, trouble: Trouble, kind?: CallKind): Plan {
  return (call) => (isNth(call, kind, (number) => number === nth) ? trouble : undefined)
}

/** Trouble for the nth call and all after it. */
export function fromCall(nth: number, trouble: Trouble, kind?: CallKind): Plan {
  return (call) => (isNth(call, kind, (number) => number >= nth) ? trouble : undefined)
}

/** One of `troubles` for about `share` (0 to 1) of all calls; the same seed gives the same answers in the same order. */
export function seededPlan(seed: number, share: number, troubles: readonly Trouble[]): Plan {
  const random = seededRandom(seed)
  return () => {
    // Both are drawn for each call, or one trouble more would shift all that come after.
    const [chance, which] = [random(), random()]
    return chance < share ? troubles[Math.floor(which * troubles.length)] : undefined
  }
}

function isNth(
  { kind, number, numberOfKind }: Call,
  wanted: CallKind | undefined,
  fits: (n: number) => boolean,
) {
  return wanted === undefined ? fits(number) : kind === wanted && fits(numberOfKind)
}

/** From 0 up to but not 1 (the mulberry32 generator). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A store with bad days: it does what `inner` does, except for the calls that its plan has trouble for. */
export class FaultyObjects implements ObjectStore {
  readonly #inner: ObjectStore
  readonly #counts: Record<CallKind, number> = { put: 0, get: 0, size: 0, list: 0, remove: 0 }
  readonly #lostPuts = new Set<ObjectName>()
  readonly #young = new Set<ObjectName>()
  readonly #gone = new Set<ObjectName>()
  /** May be changed at any time; undefined for a good day. */
  plan: Plan | undefined
  /** Every call so far. */
  callCount = 0
  /** The calls that met trouble, with what it was. */
  readonly troubles: (Call & { readonly trouble: Trouble })[] = []

  constructor(inner: ObjectStore, plan?: Plan) {
    this.#inner = inner
    this.plan = plan
  }

  get traits() {
    return this.#inner.traits
  }

  /** From here on a stale list shows the store as it is now. */
  settle(): void {
    this.#young.clear()
    this.#gone.clear()
  }

  async put(name: ObjectName, bytes: Uint8Array, signal?: AbortSignal): Promise<'stored' | 'present'> {
    const trouble = await this.#meet('put', name, ['unavailable', 'lost', 'full', 'hanging'], signal)
    if (trouble === 'full') throw new Fault('full', 'The store is full.', { subject: 'store' })
    const answer = await this.#inner.put(name, bytes, signal)
    if (answer === 'stored' && !this.#gone.delete(name)) this.#young.add(name)
    if (trouble === 'lost') {
      if (answer === 'stored') this.#lostPuts.add(name)
      throw lost()
    }
    // As the contract has it: a repeated put knows its own object again.
    return this.#lostPuts.delete(name) ? 'stored' : answer
  }

  async get(name: ObjectName, offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    const kinds: Trouble[] = ['unavailable', 'lost', 'hanging', 'truncated', 'flipped']
    const trouble = await this.#meet('get', name, kinds, signal)
    const bytes = await this.#inner.get(name, offset, lengthBytes, signal)
    if (trouble === 'lost') throw lost()
    if (trouble === 'truncated') {
      throw new Fault('corrupt', `Object ${name} is shorter than it should be.`, { subject: 'store' })
    }
    if (trouble === 'flipped') flip(bytes, Math.floor((bytes.length * 8) / 2))
    return bytes
  }

  async size(name: ObjectName, signal?: AbortSignal): Promise<number | undefined> {
    const trouble = await this.#meet('size', name, ['unavailable', 'lost', 'hanging'], signal)
    const sizeBytes = await this.#inner.size(name, signal)
    if (trouble === 'lost') throw lost()
    return sizeBytes
  }

  /** 'lost' comes after the first half of the names. */
  async *list(prefix: string, signal?: AbortSignal): AsyncIterable<ObjectName> {
    const trouble = await this.#meet('list', prefix, ['unavailable', 'lost', 'hanging', 'stale'], signal)
    const names = await Array.fromAsync(this.#inner.list(prefix, signal))
    if (trouble === 'lost') {
      yield* names.slice(0, Math.ceil(names.length / 2))
      throw lost()
    }
    if (trouble !== 'stale') return yield* names
    yield* names.filter((name) => !this.#young.has(name))
    yield* [...this.#gone].filter((name) => name.startsWith(prefix) && !names.includes(name))
  }

  async remove(name: ObjectName, signal?: AbortSignal): Promise<void> {
    const trouble = await this.#meet('remove', name, ['unavailable', 'lost', 'hanging'], signal)
    const wasThere = (await this.#inner.size(name, signal)) !== undefined
    await this.#inner.remove(name, signal)
    this.#lostPuts.delete(name)
    // What came and went since `settle` was never there for a stale list.
    if (wasThere && !this.#young.delete(name)) this.#gone.add(name)
    if (trouble === 'lost') throw lost()
  }

  async #meet(
    kind: CallKind,
    name: string,
    fitting: readonly Trouble[],
    signal: AbortSignal | undefined,
  ): Promise<Trouble | undefined> {
    const call = { kind, name, number: this.callCount++, numberOfKind: this.#counts[kind]++ }
    signal?.throwIfAborted()
    const trouble = this.plan?.(call)
    if (trouble === undefined || !fitting.includes(trouble)) return undefined
    this.troubles.push({ ...call, trouble })
    if (trouble === 'unavailable') {
      throw new Fault('unavailable', 'The store cannot be reached.', { subject: 'store' })
    }
    if (trouble !== 'hanging') return trouble
    return new Promise((_, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
    })
  }
}

/** A store whose disk is full from the `failAt`th put on (counted from 0). */
export class FillingObjects extends FaultyObjects {
  constructor(inner: ObjectStore, failAt: number) {
    super(inner, fromCall(failAt, 'full', 'put'))
  }
}

/** Changes one bit of an object where it is kept, as a bad disk would; `bit` counts from the object's start. */
export async function flipStoredBit(objects: ObjectStore, name: ObjectName, bit: number): Promise<void> {
  const bytes = await objects.get(name, 0, (await objects.size(name)) ?? 0)
  flip(bytes, bit)
  await objects.remove(name)
  await objects.put(name, bytes)
}

function flip(bytes: Buffer, bit: number): void {
  const index = Math.floor(bit / 8)
  if (index < bytes.length) bytes.writeUInt8(bytes.readUInt8(index) ^ (1 << (bit % 8)), index)
}

function lost(): Fault {
  return new Fault('unavailable', 'The answer of the store was lost.', { subject: 'store' })
}
