/** Of the runtime, which Node's types leave out. */
declare const WebAssembly: { Memory: new (size: { initial: number }) => { readonly buffer: ArrayBuffer } }

const WASM_PAGE_BYTES = 64 * 1024

/**
 * Memory that begins at a page's start, as writes past the page cache want it, and takes no room before it is written to.
 * Where the address space is limited it is ordinary memory, and writes go the usual way.
 */
export function pageMemory(lengthBytes: number): Buffer {
  try {
    const memory = new WebAssembly.Memory({ initial: Math.ceil(lengthBytes / WASM_PAGE_BYTES) })
    return Buffer.from(memory.buffer, 0, lengthBytes)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    return Buffer.allocUnsafeSlow(lengthBytes)
  }
}
