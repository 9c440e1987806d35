import { Fault } from '../image/fault.ts'
import type { Digest, DomainId, PageId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { ID_BYTES, sha256 } from '../store/hashes.ts'
import { type ImageContent, parseImage } from '../store/image.ts'
import { PAGE_BYTES, readPage } from '../store/map.ts'
import { findDomainId, pageName } from '../store/names.ts'
import type { DomainSecrets } from '../store/open-domain.ts'
import type { ChunkTable, ReadOnlyRegion } from '../store/source.ts'
import type { PeerConnection } from './connection.ts'
import { SOCKETS_MAX } from './pinned-agent.ts'
import { decodeTable, joinTables, tableBytesMax } from './table.ts'
import { LOCATE_IDS_MAX, OBJECT_BYTES_MAX, WORDS_BYTES_MAX } from './words.ts'

const IMAGE_BYTES_MAX = 64 * 1024 * 1024
/** Of pages that were looked at; those of larger images are fetched again. */
const KEPT_BYTES_MAX = 64 * 1024 * 1024

/**
 * One content of a peer's region, as `ReadOnlyRegion` has it; domains under their names there. What is answered has the form
 * that was asked for, or is Fault 'corrupt' 'peer'; whether bytes are the right ones whoever reads them finds out, as of any
 * region. Faults of all but `getImage`: 'denied' 'peer' for what we may not read (any more); 'unavailable' 'peer'.
 */
export class PeerContent implements ReadOnlyRegion {
  readonly objects: ReadOnlyRegion['objects']
  readonly #connection: PeerConnection
  readonly #path: string
  readonly #digest: Digest
  #secrets: Promise<ReadonlyMap<DomainId, DomainSecrets>> | undefined
  /** Pages that were fetched to be looked at, for the first who asks for them again. */
  readonly #pages = new Map<ObjectName, Buffer>()

  constructor(connection: PeerConnection, regionId: string, digest: Digest) {
    this.#connection = connection
    this.#digest = digest
    this.#path = `/regions/${regionId}/contents/${digest}`
    this.objects = {
      traits: { callsMax: SOCKETS_MAX, listLagMs: 0 },
      size: (name, signal) => this.#size(name, signal),
      get: (name, offset, lengthBytes, signal) => this.#get(name, offset, lengthBytes, signal),
    }
  }

  /** Source: ReadOnlyRegion. */
  async getImage(digest: Digest, signal?: AbortSignal): Promise<ImageContent> {
    if (digest !== this.#digest) throw noImage(this.#connection.name)
    const question = {
      method: 'GET',
      path: `${this.#path}/image`,
      lengthBytesMax: IMAGE_BYTES_MAX,
    } as const
    const { bytes } = await this.#connection.ask(question, signal)
    if (sha256(bytes) === digest) return parseImage(bytes)
    throw new Fault('corrupt', `Peer ${this.#connection.name} answers another image for ${digest}.`, {
      subject: 'image',
    })
  }

  /** Source: ReadOnlyRegion. */
  async getSecrets(domain: DomainId, signal?: AbortSignal): Promise<DomainSecrets> {
    const found = (await this.secrets(signal)).get(domain)
    if (found === undefined) throw this.#connection.garbled()
    return found
  }

  /** Of all domains of the image, asked for once. */
  secrets(signal?: AbortSignal): Promise<ReadonlyMap<DomainId, DomainSecrets>> {
    this.#secrets ??= this.#askSecrets(signal).catch((error) => {
      // The next one who asks may have more luck.
      this.#secrets = undefined
      throw error
    })
    return this.#secrets
  }

  /** Source: ReadOnlyRegion. */
  async locate(ids: Uint8Array, signal?: AbortSignal): Promise<ChunkTable> {
    const tables: ChunkTable[] = []
    for (let at = 0; at < ids.length; at += LOCATE_IDS_MAX * ID_BYTES) {
      tables.push(await this.#locate(ids.subarray(at, at + LOCATE_IDS_MAX * ID_BYTES), signal))
    }
    return joinTables(tables)
  }

  /** A page, checked. It is not fetched again for the first who reads it, unless the image has very many. */
  async lookAt(id: PageId, signal?: AbortSignal): Promise<Buffer> {
    const page = await readPage(this.objects, id, signal)
    if (this.#pages.size * PAGE_BYTES < KEPT_BYTES_MAX) this.#pages.set(pageName(id), page)
    return page
  }

  async #askSecrets(signal: AbortSignal | undefined): Promise<ReadonlyMap<DomainId, DomainSecrets>> {
    const question = {
      method: 'GET',
      path: `${this.#path}/secrets`,
      lengthBytesMax: WORDS_BYTES_MAX,
    } as const
    const { bytes } = await this.#asked(() => this.#connection.ask(question, signal))
    const secrets = parseSecrets(bytes)
    if (secrets === undefined) throw this.#connection.garbled()
    return secrets
  }

  async #locate(ids: Uint8Array, signal: AbortSignal | undefined): Promise<ChunkTable> {
    const count = ids.length / ID_BYTES
    const question = {
      method: 'POST',
      path: `${this.#path}/locate`,
      body: Buffer.from(ids.buffer, ids.byteOffset, ids.length),
      lengthBytesMax: tableBytesMax(count),
    } as const
    const { bytes } = await this.#asked(() => this.#connection.ask(question, signal))
    const table = decodeTable(bytes, count)
    if (table === undefined) throw this.#connection.garbled()
    return table
  }

  async #size(name: ObjectName, signal: AbortSignal | undefined): Promise<number | undefined> {
    const question = { method: 'HEAD', path: `${this.#path}/objects/${name}` } as const
    try {
      return (await this.#asked(() => this.#connection.ask(question, signal))).sizeBytes
    } catch (error) {
      if (error instanceof Fault && error.kind === 'absent') return undefined
      throw error
    }
  }

  async #get(
    name: ObjectName,
    offset: number,
    lengthBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const kept = this.#pages.get(name)
    if (kept !== undefined && offset === 0 && lengthBytes === kept.length) {
      this.#pages.delete(name)
      return kept
    }
    const path = `${this.#path}/objects/${name}`
    const pieces: Buffer[] = []
    for (let at = offset; at < offset + lengthBytes; at += OBJECT_BYTES_MAX) {
      const partBytes = Math.min(OBJECT_BYTES_MAX, offset + lengthBytes - at)
      const range = { offset: at, lengthBytes: partBytes }
      const question = { method: 'GET', path, range, lengthBytes: partBytes } as const
      pieces.push((await this.#asked(() => this.#connection.ask(question, signal))).bytes)
    }
    return pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces)
  }

  /** An image that was there when the copy began: it was deleted since, or our right to it was taken away. */
  async #asked<Result>(ask: () => Promise<Result>): Promise<Result> {
    try {
      return await ask()
    } catch (error) {
      if (!(error instanceof Fault) || error.kind !== 'absent' || error.subject === 'store') throw error
      throw new Fault(
        'denied',
        `Peer ${this.#connection.name} does not let us read the image any more, or it was deleted there.`,
        { subject: 'peer', cause: error },
      )
    }
  }
}

function parseSecrets(bytes: Buffer): ReadonlyMap<DomainId, DomainSecrets> | undefined {
  const secrets = new Map<DomainId, DomainSecrets>()
  const list: unknown = parseJson(bytes)?.secrets
  if (!Array.isArray(list)) return undefined
  for (const one of list) {
    const { domain, idKey, dataKey } = Object(one) as Record<string, unknown>
    const id = typeof domain === 'string' ? findDomainId(domain) : undefined
    const isKey = (key: unknown): key is string => typeof key === 'string' && /^[0-9a-f]{64}$/.test(key)
    if (id === undefined || !isKey(idKey) || !isKey(dataKey) || secrets.has(id)) return undefined
    secrets.set(id, { idKey: Buffer.from(idKey, 'hex'), dataKey: Buffer.from(dataKey, 'hex') })
  }
  return secrets
}

/** Undefined unless it is the JSON of an object. */
export function parseJson(bytes: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

export function noImage(peer: string): Fault {
  return new Fault('absent', `Peer ${peer} has no such image that we may read. List the images there.`, {
    subject: 'image',
  })
}
