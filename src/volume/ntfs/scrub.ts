import type { Scrubbed } from '../contract.ts'
import { damaged, refuse } from '../refuse.ts'
import { BitArray } from './bits.ts'
import {
  ATTRIBUTE,
  type Attribute,
  type FileRecord,
  findAttribute,
  type Ntfs,
  type NtfsFile,
  RECORD,
  type Slot,
} from './model.ts'
import { findCompressedEnds } from './scrub-compressed.ts'
import { Ends } from './scrub-ends.ts'
import { findIndexWork, type IndexWork, scrubIndex } from './scrub-index.ts'
import { emptyRecord, withoutSlack, withSameFixup } from './scrub-record.ts'
import { scrubBehind, scrubBoot, scrubLog } from './scrub-system.ts'
import { countChanges, isZero, Tally } from './scrub-tally.ts'
import { RecordWriter } from './scrub-writer.ts'

/** One bit for each is held in memory, twice; with clusters of 4 KiB this is 8 TiB. */
const CLUSTERS_MAX = 2 ** 31

/** Of all indexes; one bit for each is held in memory. */
const BLOCKS_MAX = 2 ** 28

/**
 * Makes zero what belongs to nothing: see `CleanVolume.scrub`. The MFT is read once; nothing but records is written before
 * every claim to clusters has been compared with every other and with $Bitmap. Throws refuse('damaged') where two files claim
 * one cluster, or one that is marked free.
 */
export async function scrubNtfs(ntfs: Ntfs): Promise<Scrubbed> {
  if (ntfs.geometry.clusterCount > CLUSTERS_MAX)
    throw refuse('too-large', 'The volume has more clusters than can be cleaned. Leave this disk out.')
  const scrubber = new Scrubber(ntfs, new BitArray(ntfs.geometry.clusterCount))
  return await scrubber.run()
}

class Scrubber {
  readonly #ntfs: Ntfs
  readonly #claimed: BitArray
  readonly #tally = new Tally()
  readonly #ends = new Ends()
  readonly #writer: RecordWriter
  readonly #indexes: IndexWork[] = []
  /** Records in use that extend another, and those that their base names. */
  readonly #extensions = new Set<number>()
  readonly #named = new Set<number>()
  #blockCount = 0
  #log: Attribute | undefined

  constructor(ntfs: Ntfs, claimed: BitArray) {
    this.#ntfs = ntfs
    this.#claimed = claimed
    this.#writer = new RecordWriter(ntfs)
  }

  async run(): Promise<Scrubbed> {
    const { medium } = this.#ntfs
    await this.#ntfs.scan((slot) => this.#visit(slot))
    await this.#writer.flush()
    for (const number of this.#extensions)
      if (!this.#named.has(number))
        throw damaged(`file record ${number} extends a record that does not say so`)
    await this.#mendMirror()
    // Before what is read here and there: a medium that had to ask what holds data knows it from then on.
    await this.#zeroUnclaimed()
    for (const work of this.#indexes) await scrubIndex(this.#ntfs, work, this.#tally)
    await this.#ends.flush(medium, this.#tally)
    if (this.#log !== undefined) await scrubLog(this.#ntfs, this.#log, this.#tally)
    await scrubBoot(this.#ntfs, this.#tally)
    await scrubBehind(this.#ntfs, this.#tally)
    return this.#tally.result()
  }

  async #visit(slot: Slot): Promise<void> {
    if (slot.is === 'record') {
      if (slot.record.isInUse) await this.#visitUsed(slot.record)
      else await this.#empty(slot.record.number, withSameFixup(slot.record.raw))
      return
    }
    const { number, raw } = slot
    if (slot.is === 'torn') {
      if ((raw.readUInt16LE(0x16) & 1) !== 0) throw damaged(`file record ${number} is torn`)
      await this.#empty(number, raw)
    } else if (!isZero(raw)) {
      if ((await this.#ntfs.records()).has(number)) throw damaged(`file record ${number} is no record`)
      await this.#replace(number, raw, Buffer.alloc(raw.length))
    }
  }

  async #visitUsed(record: FileRecord): Promise<void> {
    if (record.isExtension) this.#extensions.add(record.number)
    else await this.#visitFile(await this.#ntfs.toFile(record))
    const clean = withoutSlack(record, this.#ntfs.geometry)
    if (clean.equals(record.raw)) return
    await this.#replace(record.number, withSameFixup(record.raw), withSameFixup(clean))
  }

  async #visitFile(file: NtfsFile): Promise<void> {
    const { medium, geometry } = this.#ntfs
    const { number } = file.record
    for (const extension of file.extensions) this.#named.add(extension.number)
    for (const attribute of file.attributes) {
      if (attribute.value !== undefined) continue
      // The clusters that are bad are marked in use, and what they hold is lost.
      if (number === RECORD.badClusters && attribute.name === '$Bad') continue
      await this.#claim(attribute, number)
      if (number === RECORD.logFile && attribute.type === ATTRIBUTE.data && attribute.name === '')
        this.#log = attribute
      if (attribute.isCompressed) await findCompressedEnds(medium, attribute, geometry, this.#ends)
      else this.#ends.addAttribute(attribute, geometry)
    }
    for (const work of await findIndexWork(this.#ntfs, file)) {
      this.#indexes.push(work)
      this.#blockCount += work.blockCount
      if (this.#blockCount > BLOCKS_MAX)
        throw refuse(
          'too-large',
          'The directories of the volume are larger than can be cleaned. Leave this disk out.',
        )
    }
  }

  async #claim({ runs }: Attribute, number: number): Promise<void> {
    const clusters = await this.#ntfs.clusters()
    for (const { lcn, length } of runs) {
      if (lcn === null) continue
      if (!this.#claimed.isAll(lcn, length, false))
        throw damaged(`file record ${number} has clusters of another`)
      if (!clusters.isAll(lcn, length, true))
        throw damaged(`file record ${number} has clusters that are marked free`)
      this.#claimed.set(lcn, length, true)
    }
  }

  async #empty(number: number, raw: Buffer): Promise<void> {
    await this.#replace(number, raw, emptyRecord(number, raw))
  }

  /** `before` and `after`: a record as it lies on the medium. */
  async #replace(number: number, before: Buffer, after: Buffer): Promise<void> {
    if (after.equals(before)) return
    await this.#writer.write(number, after)
    this.#tally.add('file records', countChanges(before, after))
  }

  /** Where it has room for more than four records, systems keep these alone up to date. */
  async #mendMirror(): Promise<void> {
    const { recordBytes } = this.#ntfs.geometry
    const mirror = findAttribute(await this.#ntfs.readFile(RECORD.mftMirror), ATTRIBUTE.data)
    const mft = findAttribute(this.#ntfs.mft, ATTRIBUTE.data)
    const lengthBytes = this.#ntfs.mirrorCount * recordBytes
    if (mft === undefined || mirror === undefined || mirror.initializedBytes < lengthBytes)
      throw damaged('the mirror of the MFT is too short')
    const [before, after] = [
      await this.#ntfs.readAttribute(mirror, 0, lengthBytes),
      await this.#ntfs.readAttribute(mft, 0, lengthBytes),
    ]
    if (!before.equals(after)) {
      await this.#ntfs.writeAttribute(mirror, 0, after)
      this.#tally.add('file records', countChanges(before, after))
    }
  }

  /** Free clusters, and those that are marked in use but are nobody's: these stay marked. */
  async #zeroUnclaimed(): Promise<void> {
    const { clusterBytes, clusterCount } = this.#ntfs.geometry
    const clusters = await this.#ntfs.clusters()
    for (let at = this.#claimed.next(0, false); at < clusterCount; ) {
      const end = this.#claimed.next(at, true)
      for (let from = at; from < end; ) {
        const isMarked = clusters.has(from)
        const to = clusters.next(from, !isMarked, end)
        const bytes = await this.#ntfs.medium.zero(from * clusterBytes, (to - from) * clusterBytes)
        this.#tally.add(isMarked ? 'lost clusters' : 'free clusters', bytes)
        from = to
      }
      at = this.#claimed.next(end, false)
    }
  }
}
