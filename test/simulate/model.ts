import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import type { Digest } from '../../src/image/ids.ts'
import type { ImageContent } from '../../src/store/image.ts'
import type { SimulatedRegion, World } from './world.ts'

/** What is on one disk: a number for each chunk, 0 for zeroes; the last chunk may be short. */
export interface Layout {
  readonly chunks: readonly number[]
  readonly isShort: boolean
}

export const CHUNK_BYTES = 64 * 1024
const SHORT_BYTES = 512

export function diskBytes({ chunks, isShort }: Layout): number {
  return chunks.length * CHUNK_BYTES - (isShort ? CHUNK_BYTES - SHORT_BYTES : 0)
}

/** Content that compresses well, so that a schedule takes milliseconds. */
export function chunkContent(content: number): Buffer {
  const known = contents[content]
  if (known !== undefined) return known
  const made = Buffer.alloc(CHUNK_BYTES, content === 0 ? 0 : `content ${content} `)
  contents[content] = made
  return made
}

const contents: Buffer[] = []

/**
 * What somebody refers to, as the outside world knows it. 'sure': the store has said that the ref is there, and nobody
 * has begun to take it away. 'maybe': something is under way, or a crash came between.
 */
export interface Holder {
  readonly name: string
  readonly region: SimulatedRegion
  readonly disks: readonly Layout[]
  state: 'sure' | 'maybe' | 'gone'
  digest: Digest | undefined
  image: ImageContent | undefined
  /** Tasks that read from the image: it is not dropped meanwhile. */
  useCount: number
  isDropping: boolean
}

/** What has to be true of the store, known without asking it. */
export class Model {
  readonly holders = new Map<string, Holder>()
  readonly #world: World
  /** Rises with every change of what is sure. */
  version = 0

  constructor(world: World) {
    this.#world = world
  }

  newHolder(region: SimulatedRegion, disks: readonly Layout[]): Holder {
    const name = this.#world.newName('h')
    const holder: Holder = {
      name,
      region,
      disks,
      state: 'maybe',
      digest: undefined,
      image: undefined,
      useCount: 0,
      isDropping: false,
    }
    this.holders.set(name, holder)
    return holder
  }

  becomesSure(holder: Holder, digest: Digest, image: ImageContent): void {
    const sizes = image.disks.map((disk) => disk.sizeBytes)
    assert(isDeepStrictEqual(sizes, holder.disks.map(diskBytes)), 'an image has the disks that were captured')
    holder.digest = digest
    holder.image = image
    holder.state = 'sure'
    this.version++
  }

  becomesUnsure(holder: Holder): void {
    holder.state = 'maybe'
    this.version++
  }

  becomesGone(holder: Holder): void {
    holder.state = 'gone'
    this.version++
  }

  sure(): Holder[] {
    return [...this.holders.values()].filter((holder) => holder.state === 'sure')
  }

  /** Whoever read from an image is gone. */
  processDied(): void {
    for (const holder of this.holders.values()) {
      holder.useCount = 0
      holder.isDropping = false
    }
  }
}
