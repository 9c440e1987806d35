import assert from 'node:assert'
import type { Medium } from '../contract.ts'
import { damaged, refuse } from '../refuse.ts'
import {
  ATTRIBUTE_LIST_BYTES_MAX,
  eachStretch,
  joinParts,
  type PlacedPart,
  parseAttributeList,
} from './attributes.ts'
import { BitArray } from './bits.ts'
import { readGeometry } from './boot.ts'
import { undoFixup, withFixup } from './fixup.ts'
import {
  ATTRIBUTE,
  type Attribute,
  type Bits,
  type FileRecord,
  findAttribute,
  type Geometry,
  type Ntfs,
  type NtfsFile,
  RECORD,
  type Run,
  type Slot,
} from './model.ts'
import { parseParts, parseRecord } from './parts.ts'

const SCAN_BYTES = 1024 * 1024

/** Tables of all records are held in memory: see `table.ts`. */
const RECORDS_MAX = 4_000_000

/** Reads boot sector, MFT, mirror and upper case table. Nothing is judged yet: see `state.ts`. */
export async function openNtfsModel(medium: Medium): Promise<Ntfs> {
  const volume = new NtfsVolume(medium, await readGeometry(medium))
  await volume.start()
  return volume
}

class NtfsVolume implements Ntfs {
  readonly medium: Medium
  readonly geometry: Geometry
  recordCount: number
  mirrorCount = 0
  upcase = new Uint16Array(0)
  #mftRuns: readonly Run[]
  #mft: NtfsFile | undefined
  #clusters: BitArray | undefined
  #records: BitArray | undefined

  constructor(medium: Medium, geometry: Geometry) {
    this.medium = medium
    this.geometry = geometry
    // As much as must be there to read record 0; the rest is known from it.
    const length = Math.ceil(geometry.recordBytes / geometry.clusterBytes)
    this.#mftRuns = [{ vcn: 0, lcn: geometry.mftLcn, length }]
    this.recordCount = 1
  }

  get mft(): NtfsFile {
    assert(this.#mft)
    return this.#mft
  }

  async start(): Promise<void> {
    await this.#startMft()
    const mirror = findAttribute(await this.readFile(RECORD.mftMirror), ATTRIBUTE.data)
    if (mirror === undefined || mirror.isResident) throw damaged('the mirror of the MFT has no clusters')
    if (mirror.runs[0]?.lcn !== this.geometry.mftMirrorLcn)
      throw damaged('the mirror of the MFT is not where the boot sector says')
    this.mirrorCount = Math.min(Math.floor(mirror.dataBytes / this.geometry.recordBytes), this.recordCount)
    if (this.mirrorCount < 1 || mirror.runs.length !== 1) throw damaged('the mirror of the MFT is in pieces')
    await this.#startUpcase()
  }

  async readSlot(number: number): Promise<Slot> {
    assert(Number.isSafeInteger(number) && number >= 0 && number < this.recordCount)
    const { recordBytes } = this.geometry
    return toSlot(number, await this.#read(this.#mftRuns, number * recordBytes, recordBytes))
  }

  async readRecord(number: number): Promise<FileRecord> {
    if (number >= this.recordCount) throw damaged(`file record ${number} is beyond the MFT`)
    const slot = await this.readSlot(number)
    if (slot.is !== 'record') throw damaged(`file record ${number} cannot be read`)
    return slot.record
  }

  async scan(visit: (slot: Slot) => void | Promise<void>): Promise<void> {
    const { recordBytes } = this.geometry
    const pieceCount = SCAN_BYTES / recordBytes
    for (let first = 0; first < this.recordCount; first += pieceCount) {
      const count = Math.min(pieceCount, this.recordCount - first)
      const bytes = await this.#read(this.#mftRuns, first * recordBytes, count * recordBytes)
      for (let index = 0; index < count; index += 1) {
        const slot = toSlot(first + index, bytes.subarray(index * recordBytes, (index + 1) * recordBytes))
        const done = visit(slot)
        if (done !== undefined) await done
      }
    }
  }

  async writeRecord(record: Pick<FileRecord, 'number' | 'raw'>): Promise<void> {
    await this.writeSlot(record.number, withFixup(record.raw))
  }

  async writeSlot(number: number, raw: Buffer): Promise<void> {
    const { recordBytes, clusterBytes, mftMirrorLcn } = this.geometry
    const count = raw.length / recordBytes
    assert(Number.isInteger(count) && number >= 0 && number + count <= this.recordCount)
    await this.#write(this.#mftRuns, number * recordBytes, raw)
    if (number < this.mirrorCount) {
      const mirrored = raw.subarray(0, (this.mirrorCount - number) * recordBytes)
      await this.medium.write(mftMirrorLcn * clusterBytes + number * recordBytes, mirrored)
    }
  }

  async readFile(number: number): Promise<NtfsFile> {
    return await this.toFile(await this.readRecord(number))
  }

  async toFile(record: FileRecord): Promise<NtfsFile> {
    const { number } = record
    if (!record.isInUse || record.isExtension) throw damaged(`file record ${number} is not that of a file`)
    const own = parseParts(record, this.geometry).map((part) => ({ record: number, part }))
    const list = own.find(({ part }) => part.type === ATTRIBUTE.attributeList)
    if (list === undefined) {
      return { record, extensions: [], attributes: joinParts(own, this.geometry, number) }
    }
    const listed = await this.#collect(record, own, list)
    // The list names all but itself.
    const attributes = joinParts([list, ...listed.parts], this.geometry, number)
    return { record, extensions: listed.extensions, attributes }
  }

  async readAttribute(attribute: Attribute, offset: number, lengthBytes: number): Promise<Buffer> {
    assert(
      offset >= 0 &&
        lengthBytes >= 0 &&
        offset + lengthBytes <= Math.max(attribute.allocatedBytes, attribute.dataBytes),
    )
    if (attribute.value !== undefined)
      return Buffer.from(attribute.value.subarray(offset, offset + lengthBytes))
    const bytes = await this.#read(attribute.runs, offset, lengthBytes)
    if (offset + lengthBytes > attribute.initializedBytes)
      bytes.fill(0, Math.max(0, attribute.initializedBytes - offset))
    return bytes
  }

  async writeAttribute(attribute: Attribute, offset: number, bytes: Uint8Array): Promise<void> {
    assert(attribute.value === undefined && offset + bytes.length <= attribute.allocatedBytes)
    await this.#write(attribute.runs, offset, bytes)
  }

  async clusters(): Promise<Bits> {
    this.#clusters ??= await this.#loadBits(await this.#clusterMap(), this.geometry.clusterCount)
    return this.#clusters
  }

  async records(): Promise<Bits> {
    this.#records ??= await this.#loadBits(this.#recordMap(), this.recordCount)
    return this.#records
  }

  async writeBitmaps(): Promise<void> {
    if (this.#clusters?.isChanged) {
      await this.#storeBits(await this.#clusterMap(), this.#clusters)
    }
    if (this.#records?.isChanged) {
      await this.#storeBits(this.#recordMap(), this.#records)
      // A resident bitmap stands in the record itself.
      const { record } = this.mft
      if (this.#recordMap().value !== undefined) await this.writeRecord(record)
    }
  }

  /** Record 0 says where the MFT lies; if it lies in many pieces, further records say so, each found through the pieces before it. */
  async #startMft(): Promise<void> {
    const { recordBytes, clusterBytes } = this.geometry
    const record = await this.readRecord(RECORD.mft)
    if (!record.isInUse || record.isExtension) throw damaged('file record 0 is not that of the MFT')
    const parts = parseParts(record, this.geometry)
    const isData = (part: { type: number; name: string }) => part.type === ATTRIBUTE.data && part.name === ''
    const first = parts.find((part) => isData(part) && part.lowestVcn === 0)
    if (first === undefined || first.value !== undefined) throw damaged('the MFT has no clusters')
    const runs: Run[] = [...first.runs]
    this.#mftRuns = runs
    const countOf = () => {
      const last = runs.at(-1)
      const bytes = last === undefined ? 0 : (last.vcn + last.length) * clusterBytes
      return Math.floor(Math.min(first.initializedBytes, first.dataBytes, bytes) / recordBytes)
    }
    this.recordCount = Math.max(1, countOf())
    const list = parts.find((part) => part.type === ATTRIBUTE.attributeList)
    if (list !== undefined) {
      for (const entry of parseAttributeList(await this.#readList({ record: 0, part: list }, 0), 0)) {
        if (!isData(entry) || entry.lowestVcn === 0) continue
        const extension = await this.readRecord(entry.at.record)
        if (!extension.isInUse) throw damaged('a part of the MFT is missing')
        const part = parseParts(extension, this.geometry).find(
          (one) => isData(one) && one.lowestVcn === entry.lowestVcn,
        )
        const last = runs.at(-1)
        if (part === undefined || last === undefined || part.lowestVcn !== last.vcn + last.length) {
          throw damaged('a part of the MFT is missing')
        }
        runs.push(...part.runs)
        this.recordCount = Math.max(1, countOf())
      }
    }
    if (runs.some(({ lcn }) => lcn === null)) throw damaged('the MFT has holes')
    if (this.recordCount > RECORDS_MAX) {
      throw refuse('too-large', 'The volume has more files than can be cleaned. Leave this disk out.')
    }
    this.#mft = await this.toFile(await this.readRecord(RECORD.mft))
    if (this.recordCount <= RECORD.extend) throw damaged('the MFT is too short')
    const data = findAttribute(this.mft, ATTRIBUTE.data)
    if (data === undefined || data.initializedBytes < this.recordCount * recordBytes)
      throw damaged('the MFT has a wrong size')
    this.#mftRuns = data.runs
    this.recordCount = Math.floor(data.initializedBytes / recordBytes)
    if (this.recordCount > RECORDS_MAX) throw damaged('the MFT has a wrong size')
  }

  async #startUpcase(): Promise<void> {
    const data = findAttribute(await this.readFile(RECORD.upcase), ATTRIBUTE.data)
    if (data === undefined || data.dataBytes !== 131_072)
      throw damaged('the upper case table has a wrong size')
    const bytes = await this.readAttribute(data, 0, data.dataBytes)
    this.upcase = Uint16Array.from({ length: 65_536 }, (_, index) => bytes.readUInt16LE(index * 2))
  }

  /** All parts that the attribute list of `record` names, in its order, and the records they stand in. */
  async #collect(
    record: FileRecord,
    own: readonly PlacedPart[],
    list: PlacedPart,
  ): Promise<{ parts: PlacedPart[]; extensions: FileRecord[] }> {
    const { number } = record
    const extensions: FileRecord[] = []
    const partsOf = new Map([[number, own]])
    const parts: PlacedPart[] = []
    const used = new Set<PlacedPart>([list])
    for (const entry of parseAttributeList(await this.#readList(list, number), number)) {
      let there = partsOf.get(entry.at.record)
      if (there === undefined) {
        const extension = await this.#readExtension(entry.at.record, entry.at.sequence, number)
        extensions.push(extension)
        there = parseParts(extension, this.geometry).map((part) => ({ record: extension.number, part }))
        partsOf.set(entry.at.record, there)
      }
      const placed = there.find(
        ({ part }) =>
          part.type === entry.type &&
          part.instance === entry.instance &&
          part.lowestVcn === entry.lowestVcn &&
          part.name === entry.name,
      )
      if (placed === undefined || used.has(placed)) {
        throw damaged(`file record ${entry.at.record} lacks an attribute of record ${number}`)
      }
      used.add(placed)
      parts.push(placed)
    }
    // What the list does not name would be kept by some readings and lost by others.
    if (used.size !== [...partsOf.values()].reduce((sum, { length }) => sum + length, 0)) {
      throw damaged(`the attribute list of file record ${number} does not name everything`)
    }
    return { parts, extensions }
  }

  async #readExtension(number: number, sequence: number, base: number): Promise<FileRecord> {
    const extension = await this.readRecord(number)
    const isOfBase = extension.isExtension && extension.base === base
    if (!extension.isInUse || !isOfBase || extension.sequence !== sequence) {
      throw damaged(`file record ${number} does not extend record ${base}, which says so`)
    }
    return extension
  }

  async #readList(list: PlacedPart, number: number): Promise<Buffer> {
    const attribute = joinParts([list], this.geometry, number)[0] as Attribute
    if (attribute.dataBytes > ATTRIBUTE_LIST_BYTES_MAX)
      throw damaged(`the attribute list of file record ${number} is too long`)
    return await this.readAttribute(attribute, 0, attribute.dataBytes)
  }

  async #clusterMap(): Promise<Attribute> {
    const map = findAttribute(await this.readFile(RECORD.bitmap), ATTRIBUTE.data)
    if (
      map === undefined ||
      map.isResident ||
      hasHole(map) ||
      map.initializedBytes * 8 < this.geometry.clusterCount
    ) {
      throw damaged('the map of clusters is too short')
    }
    if (map.dataBytes > this.geometry.clusterCount / 8 + 1024 * 1024)
      throw damaged('the map of clusters is too long')
    return map
  }

  #recordMap(): Attribute {
    const map = findAttribute(this.mft, ATTRIBUTE.bitmap)
    if (map === undefined || hasHole(map) || map.initializedBytes * 8 < this.recordCount)
      throw damaged('the map of file records is too short')
    if (map.dataBytes > 16 * 1024 * 1024) throw damaged('the map of file records is too long')
    return map
  }

  async #loadBits(map: Attribute, bitCount: number): Promise<BitArray> {
    return new BitArray(bitCount, await this.readAttribute(map, 0, map.dataBytes))
  }

  async #storeBits(map: Attribute, bits: BitArray): Promise<void> {
    if (map.value === undefined)
      await this.writeAttribute(map, 0, bits.bytes.subarray(0, map.initializedBytes))
    else bits.bytes.copy(map.value)
    bits.isChanged = false
  }

  async #read(runs: readonly Run[], offset: number, lengthBytes: number): Promise<Buffer> {
    const stretches = eachStretch(runs, this.geometry.clusterBytes, offset, lengthBytes)
    const only = stretches[0]
    if (stretches.length === 1 && only && only.at !== null && only.lengthBytes === lengthBytes) {
      return await this.medium.read(only.at, lengthBytes)
    }
    const bytes = Buffer.alloc(lengthBytes)
    let done = offset
    for (const stretch of stretches) {
      if (stretch.at !== null) {
        bytes.set(await this.medium.read(stretch.at, stretch.lengthBytes), stretch.offset - offset)
      }
      done = stretch.offset + stretch.lengthBytes
    }
    if (done !== offset + lengthBytes) throw damaged('a stream is longer than its clusters')
    return bytes
  }

  async #write(runs: readonly Run[], offset: number, bytes: Uint8Array): Promise<void> {
    for (const stretch of eachStretch(runs, this.geometry.clusterBytes, offset, bytes.length)) {
      assert(stretch.at !== null)
      const from = stretch.offset - offset
      await this.medium.write(stretch.at, bytes.subarray(from, from + stretch.lengthBytes))
    }
  }
}

function toSlot(number: number, raw: Buffer): Slot {
  if (raw.toString('latin1', 0, 4) !== 'FILE') return { is: 'blank', number, raw }
  // The bytes as they lie there are given back if the sequence does not fit: undoing leaves them as they are then.
  if (!undoFixup(raw)) return { is: 'torn', number, raw }
  return { is: 'record', record: parseRecord(number, raw) }
}

function hasHole({ runs }: Attribute): boolean {
  return runs.some(({ lcn }) => lcn === null)
}
