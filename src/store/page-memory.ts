/** Of the runtime, which Node's types leave out. */
declare const WebAssembly: {
  Memory: new (size: {
    initial: number
    maximum?: number
    shared?: boolean
  }) => { readonly buffer: ArrayBuffer }
}

const WASM_PAGE_BYTES = 64 * 1024

/**
 * Memory that begins at a page's start, as writes past the page cache want it, and takes no room before it is written to.
 * Where the address space is limited it is ordinary memory, and writes go the usual way. `isShared`: another thread that is
 * sent it sees the same bytes; of ordinary memory it gets a copy.
 */
export function pageMemory(lengthBytes: number, isShared = false): Buffer {
  try {
    const initial = Math.ceil(lengthBytes / WASM_PAGE_BYTES)
    const memory = new WebAssembly.Memory(
      isShared ? { initial, maximum: initial, shared: true } : { initial },
    )
    return Buffer.from(memory.buffer, 0, lengthBytes)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    return Buffer.allocUnsafeSlow(lengthBytes)
  }
}
