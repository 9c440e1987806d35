import { createHmac } from 'node:crypto'
import type { DomainId } from '../image/ids.ts'
import { IdHasher } from './hashes.ts'
import type { FillRandom } from './keys.ts'
import { openReport, sealReport } from './report.ts'
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
  readonly #reportKey: Buffer

  constructor(id: DomainId, { idKey, dataKey }: DomainSecrets, fill?: FillRandom) {
    this.id = id
    this.hasher = new IdHasher(Buffer.from(idKey))
    this.sealer = new ChunkSealer(dataKey, fill)
    this.#signKey = createHmac('sha256', dataKey).update('calotype image signature').digest()
    this.#reportKey = createHmac('sha256', dataKey).update('calotype cleaning report').digest()
  }

  /** What only a holder of the domain's keys can say of an image object. Source: docs/format.md, "Signature". */
  sign(imageBytes: Uint8Array): Buffer {
    return createHmac('sha256', this.#signKey).update(imageBytes).digest()
  }

  /** A report as an image object carries it. */
  sealReport(text: string): string {
    return sealReport(this.#reportKey, text)
  }

  /** Undefined unless it was sealed by this domain, and is as it was. */
  openReport(sealed: string): string | undefined {
    return openReport(this.#reportKey, sealed)
  }
}
