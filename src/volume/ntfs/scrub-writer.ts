import assert from 'node:assert/strict'
import { ATTRIBUTE, findAttribute, type Ntfs } from './model.ts'

const WRITE_BYTES = 1024 * 1024

/** Writes records of the MFT that come in rising order, neighbours in one go. Not into the mirror. */
export class RecordWriter {
  readonly #ntfs: Ntfs
  #first = 0
  #records: Buffer[] = []

  constructor(ntfs: Ntfs) {
    this.#ntfs = ntfs
  }

  /** `raw`: as it is to lie on the medium. */
  async write(number: number, raw: Buffer): Promise<void> {
    const isNext = number === this.#first + this.#records.length
    if (!isNext || this.#records.length * raw.length >= WRITE_BYTES) await this.flush()
    if (this.#records.length === 0) this.#first = number
    this.#records.push(raw)
  }

  async flush(): Promise<void> {
    if (this.#records.length === 0) return
    const data = findAttribute(this.#ntfs.mft, ATTRIBUTE.data)
    assert(data !== undefined)
    const bytes = Buffer.concat(this.#records)
    this.#records = []
    await this.#ntfs.writeAttribute(data, this.#first * this.#ntfs.geometry.recordBytes, bytes)
  }
}
