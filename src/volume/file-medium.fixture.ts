import assert from 'node:assert/strict'
import { type FileHandle, open } from 'node:fs/promises'
import type { Medium } from './contract.ts'
import { isInside } from './slice.ts'

const PIECE_BYTES = 1024 * 1024
const BLOCK_BYTES = 4096
const ZEROES = Buffer.alloc(PIECE_BYTES)

/** A raw disk in a file. Zeroing writes zeroes, but only where there are none: sparse files stay sparse. */
export class FileMedium implements Medium {
  readonly sizeBytes: number
  readonly counts = { reads: 0, readBytes: 0, writes: 0, writtenBytes: 0, zeroes: 0 }
  readonly #file: FileHandle

  private constructor(file: FileHandle, sizeBytes: number) {
    this.#file = file
    this.sizeBytes = sizeBytes
  }

  static async open(path: string): Promise<FileMedium> {
    const file = await open(path, 'r+')
    return new FileMedium(file, (await file.stat()).size)
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  async read(offset: number, lengthBytes: number): Promise<Buffer> {
    assert(
      isInside(this.sizeBytes, offset, lengthBytes),
      `read ${offset} + ${lengthBytes} of ${this.sizeBytes}`,
    )
    this.counts.reads++
    this.counts.readBytes += lengthBytes
    return this.#take(offset, lengthBytes)
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    assert(
      isInside(this.sizeBytes, offset, bytes.length),
      `write ${offset} + ${bytes.length} of ${this.sizeBytes}`,
    )
    this.counts.writes++
    this.counts.writtenBytes += bytes.length
    await this.#put(offset, bytes)
  }

  async zero(offset: number, lengthBytes: number): Promise<number> {
    assert(
      isInside(this.sizeBytes, offset, lengthBytes),
      `zero ${offset} + ${lengthBytes} of ${this.sizeBytes}`,
    )
    this.counts.zeroes++
    let heldBytes = 0
    for (let at = offset; at < offset + lengthBytes; at += PIECE_BYTES) {
      const zeroes = ZEROES.subarray(0, Math.min(PIECE_BYTES, offset + lengthBytes - at))
      const bytes = await this.#take(at, zeroes.length)
      if (bytes.equals(zeroes)) continue
      heldBytes += countHeld(bytes)
      await this.#put(at, zeroes)
    }
    return heldBytes
  }

  async #take(offset: number, lengthBytes: number): Promise<Buffer> {
    const bytes = Buffer.alloc(lengthBytes)
    for (let done = 0; done < lengthBytes; ) {
      const { bytesRead } = await this.#file.read(bytes, done, lengthBytes - done, offset + done)
      assert(bytesRead > 0, 'the file became shorter')
      done += bytesRead
    }
    return bytes
  }

  async #put(offset: number, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      done += (await this.#file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten
    }
  }
}

/** Of its blocks that are not all zeroes. */
function countHeld(bytes: Buffer): number {
  let heldBytes = 0
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    const block = bytes.subarray(at, at + BLOCK_BYTES)
    if (!block.equals(ZEROES.subarray(0, block.length))) heldBytes += block.length
  }
  return heldBytes
}
