import { Fault } from '../../image/fault.ts'
import type { ObjectName } from '../../objects/names.ts'
import { sha256 } from '../hashes.ts'
import { damagedBundle, lackingHere } from './fault.ts'
import type { PlacedRecord } from './layout.ts'

/** The file of a bundle. A read is inside [0, sizeBytes) and answers exactly `lengthBytes`. */
export interface BundleSource {
  readonly sizeBytes: number
  read(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer>
}

const READ_BYTES = 1024 * 1024
/** The source is one file: more at once would only be in each other's way. */
const CALLS_MAX = 4

export async function readAll(
  source: BundleSource,
  offset: number,
  lengthBytes: number,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const parts: Buffer[] = []
  for (let at = 0; at < lengthBytes; at += READ_BYTES) {
    parts.push(await source.read(offset + at, Math.min(READ_BYTES, lengthBytes - at), signal))
  }
  return Buffer.concat(parts)
}

/** The objects in a bundle, as if they were in a store. */
export class BundleObjects {
  readonly traits = { callsMax: CALLS_MAX, listLagMs: 0 }
  readonly #source: BundleSource
  readonly records: ReadonlyMap<ObjectName, PlacedRecord>

  constructor(source: BundleSource, records: ReadonlyMap<ObjectName, PlacedRecord>) {
    this.#source = source
    this.records = records
  }

  async size(name: ObjectName): Promise<number | undefined> {
    return this.records.get(name)?.lengthBytes
  }

  /** Of a pack, bytes as they are: the table tells what is in them. Of all else, bytes of the checked object. */
  async get(name: ObjectName, offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    const record = this.records.get(name)
    if (record === undefined) {
      // It was left out, because we were said to have it.
      if (name.startsWith('pages/')) throw lackingHere()
      throw new Fault('absent', `The bundle has no object ${name}.`, { subject: 'file' })
    }
    if (offset < 0 || lengthBytes < 0 || offset + lengthBytes > record.lengthBytes) {
      throw new Fault('corrupt', `Object ${name} of the bundle is shorter.`, { subject: 'file' })
    }
    if (record.kind === 'pack') return this.#source.read(record.offset + offset, lengthBytes, signal)
    const bytes = await readAll(this.#source, record.offset, record.lengthBytes, signal)
    if (sha256(bytes) !== record.check) throw damagedBundle()
    return bytes.subarray(offset, offset + lengthBytes)
  }
}
