/**
 * Decoded chunks by their id, bounded in bytes, the longest unused leave first; each is loaded once at a time. Takes
 * memory only as it fills.
 */
export class ChunkCache {
  readonly #bytesMax: number
  #bytes = 0
  readonly #chunks = new Map<string, Buffer>()
  readonly #loading = new Map<string, Promise<Buffer>>()

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** The chunk if it is here, without waiting. Its bytes are shared: never write to them. */
  find(key: string): Buffer | undefined {
    const chunk = this.#chunks.get(key)
    if (chunk !== undefined) {
      this.#chunks.delete(key)
      this.#chunks.set(key, chunk)
    }
    return chunk
  }

  /** True if the chunk is here or on its way. It does not count as a use. */
  has(key: string): boolean {
    return this.#chunks.has(key) || this.#loading.has(key)
  }

  /** The chunk, loaded if need be. Callers that come while it loads share the one load, and its failure. */
  async get(key: string, load: () => Promise<Buffer>): Promise<Buffer> {
    const found = this.find(key)
    if (found !== undefined) return found
    let loading = this.#loading.get(key)
    if (loading === undefined) {
      loading = load()
        .then((chunk) => {
          this.#keep(key, chunk)
          return chunk
        })
        .finally(() => this.#loading.delete(key))
      this.#loading.set(key, loading)
    }
    return loading
  }

  clear(): void {
    this.#chunks.clear()
    this.#bytes = 0
  }

  #keep(key: string, chunk: Buffer): void {
    if (chunk.length > this.#bytesMax) return
    this.#chunks.set(key, chunk)
    this.#bytes += chunk.length
    for (const [oldest, bytes] of this.#chunks) {
      if (this.#bytes <= this.#bytesMax) break
      this.#chunks.delete(oldest)
      this.#bytes -= bytes.length
    }
  }
}
