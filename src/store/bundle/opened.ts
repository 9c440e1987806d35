import { crc32 } from 'node:zlib'
import type { DomainId, PackId, PageId } from '../../image/ids.ts'
import type { ObjectName } from '../../objects/names.ts'
import { ID_BYTES } from '../hashes.ts'
import type { ImageContent } from '../image.ts'
import { packName } from '../names.ts'
import type { DomainSecrets } from '../open-domain.ts'
import type { ChunkPlace } from '../places.ts'
import { type ChunkTable, type ReadOnlyRegion, tableOf } from '../source.ts'
import { damagedBundle } from './fault.ts'
import type { PlacedRecord } from './layout.ts'
import { type BundleObjects, type BundleSource, readAll } from './objects.ts'
import type { Statement } from './statement.ts'
import { BundleTables } from './tables.ts'

/** A bundle whose signature, recipient and image object were found right. */
export class OpenBundle {
  readonly objects: ReadOnlyRegion['objects']
  readonly statement: Statement
  /** By the names that its maker has for the domains. Never to be logged. */
  readonly secrets: ReadonlyMap<DomainId, DomainSecrets>
  readonly image: ImageContent
  /** Hex of the Ed25519 key that it is signed with. */
  readonly signer: string
  /** Bytes of the packs in it. */
  readonly storedBytes: number
  readonly #source: BundleSource
  readonly #packs: readonly PlacedRecord[]
  readonly #packIndexes: ReadonlyMap<string, number>
  readonly #pages: ReadonlySet<string>
  #tables: Promise<BundleTables> | undefined

  constructor(
    source: BundleSource,
    objects: BundleObjects,
    statement: Statement,
    secrets: ReadonlyMap<DomainId, DomainSecrets>,
    image: ImageContent,
    signer: string,
  ) {
    this.#source = source
    this.statement = statement
    this.secrets = secrets
    this.image = image
    this.signer = signer
    const records = [...objects.records.values()]
    this.#packs = records.filter(({ kind }) => kind === 'pack')
    this.#packIndexes = new Map(this.#packs.map(({ id }, index) => [packName(id as PackId), index]))
    this.#pages = new Set(records.filter(({ kind }) => kind === 'page').map(({ id }) => id))
    this.storedBytes = this.#packs.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
    this.objects = {
      traits: objects.traits,
      size: (name) => objects.size(name),
      get: async (name, offset, lengthBytes, signal) => {
        const bytes = await objects.get(name, offset, lengthBytes, signal)
        await this.#checkChunks(name, offset, bytes, signal)
        return bytes
      },
    }
  }

  hasPage(id: PageId): boolean {
    return this.#pages.has(id)
  }

  /** As `ReadOnlyRegion.locate`, domains by their makers' names: -1 for a chunk that is not in the bundle. */
  async locate(ids: Uint8Array, signal?: AbortSignal): Promise<ChunkTable> {
    const tables = await this.#open(signal)
    const places = new Map<Uint8Array, ChunkPlace>()
    const views = Array.from({ length: ids.length / ID_BYTES }, (_, i) =>
      Buffer.from(ids.buffer, ids.byteOffset + i * ID_BYTES, ID_BYTES),
    )
    for (const id of views) {
      const place = await tables.find(id)
      if (place === undefined) continue
      if (!this.secrets.has(place.domain)) throw damagedBundle()
      const { pack, domain, entry } = place
      const { offset, storedBytes, plainBytes, crc32 } = entry
      places.set(id, { pack, domain, offset, storedBytes, plainBytes, crc32, isCommitted: true })
    }
    let next = 0
    return tableOf(ids, () => places.get(views[next++] as Buffer))
  }

  #open(signal: AbortSignal | undefined): Promise<BundleTables> {
    const read = (offset: number, lengthBytes: number) => readAll(this.#source, offset, lengthBytes, signal)
    this.#tables ??= BundleTables.open(this.#packs, read, signal)
    return this.#tables
  }

  /** So that bytes which went bad on the way are told to be the file's fault, and not a region's. */
  async #checkChunks(
    name: ObjectName,
    offset: number,
    bytes: Buffer,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const index = this.#packIndexes.get(name)
    if (index === undefined) return
    const { entries } = await (await this.#open(signal)).contentOf(index)
    const end = offset + bytes.length
    for (const entry of entries) {
      const at = entry.offset - offset
      if (at < 0 || entry.offset + entry.storedBytes > end) continue
      if (crc32(bytes.subarray(at, at + entry.storedBytes)) !== entry.crc32) throw damagedBundle()
    }
  }
}
