import type { ObjectName } from './names.ts'

/**
 * Where durable bytes live. Every implementation passes `objectStoreSuite`.
 * An object never changes: a second `put` stores nothing, whatever its bytes. Once `put` resolves, the bytes and
 * the name survive a power cut; a `put` that fails or is aborted leaves the whole object or nothing.
 * Any number of threads and processes may use the same store at once.
 */
export interface ObjectStore {
  readonly traits: {
    /** How many calls at once still help. */
    readonly callsMax: number
    /** How long a new object may be missing from `list`, in milliseconds. */
    readonly listLagMs: number
  }
  /**
   * `bytes` must not change until the promise settles; they may be backed by shared memory.
   * A put that failed with 'unavailable' may have stored the object all the same: whoever repeats it through the same
   * instance hears 'stored' if so, and 'present' only of somebody else's object.
   * Faults: 'full' (subject 'store') for no space, with nothing left behind; 'unavailable'.
   */
  put(name: ObjectName, bytes: Uint8Array, signal?: AbortSignal): Promise<'stored' | 'present'>
  /** Bytes [offset, offset + lengthBytes). Faults: 'absent'; 'corrupt' if the object is shorter than that. */
  get(name: ObjectName, offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer>
  /**
   * As `get` of as many bytes as `target` takes, into memory of the caller's own, which is his again when it settles. Left out
   * where that saves nothing.
   */
  getInto?(name: ObjectName, offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void>
  /** The object's length in bytes, or undefined if there is none. */
  size(name: ObjectName, signal?: AbortSignal): Promise<number | undefined>
  /** Names that start with `prefix`, in no order; may miss objects younger than `traits.listLagMs`. */
  list(prefix: string, signal?: AbortSignal): AsyncIterable<ObjectName>
  /** Durable when it resolves. An absent object is no fault. */
  remove(name: ObjectName, signal?: AbortSignal): Promise<void>
}
