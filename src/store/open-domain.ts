import { createHmac } from 'node:crypto'
import type { DomainId } from '../image/ids.ts'
import { IdHasher } from './hashes.ts'
import type { FillRandom } from './keys.ts'
import { ChunkSealer } from './seal.ts'

/** A domain's two keys, 32 bytes each. Equal in every region that holds chunks of the domain. Never to be logged. */
export interface DomainSecrets {
  /** K_id: what the ids of chunks are keyed with. */
  readonly idKey: Uint8Array
  /** K_enc: what the keys of chunks and of signatures are derived from. */
  readonly dataKey: Uint8Array
}

/** A domain whose keys are at hand. Not shared between threads. */
export class OpenDomain {
  readonly id: DomainId
  readonly hasher: IdHasher
  readonly sealer: ChunkSealer
  readonly #signKey: Buffer

  constructor(id: DomainId, { idKey, dataKey }: DomainSecrets, fill?: FillRandom) {
    this.id = id
    this.hasher = new IdHasher(Buffer.from(idKey))
    this.sealer = new ChunkSealer(dataKey, fill)
    this.#signKey = createHmac('sha256', dataKey).update('calotype image signature').digest()
  }

  /** What only a holder of the domain's keys can say of an image object. Source: docs/format.md, "Signature". */
  sign(imageBytes: Uint8Array): Buffer {
    return createHmac('sha256', this.#signKey).update(imageBytes).digest()
  }
}
