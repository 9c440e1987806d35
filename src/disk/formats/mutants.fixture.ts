import type { ByteSource } from './contract.ts'
import type { Seed } from './seeds.fixture.ts'

/** One change to a file, in numbers that fit every file: places are taken modulo what there is. */
export interface Mutation {
  readonly kind: 'byte' | 'bit' | 'number' | 'copy' | 'cut' | 'grow' | 'splice'
  /** Most changes go where the file is not zero: there are its tables. */
  readonly isAnywhere: boolean
  readonly where: number
  readonly other: number
  readonly value: number
}

/** Where a number of a format is at an edge: of its width, its sign, sectors, clusters, and what a double holds exactly. */
const EDGES: readonly bigint[] = [
  ...[
    0n,
    1n,
    2n,
    3n,
    7n,
    8n,
    63n,
    64n,
    127n,
    128n,
    255n,
    256n,
    511n,
    512n,
    513n,
    4095n,
    4096n,
    65_535n,
    65_536n,
  ],
  ...[20n, 21n, 24n, 30n, 31n, 32n, 33n, 40n, 52n, 53n, 54n, 55n, 56n, 61n, 62n, 63n].flatMap((bits) => [
    (1n << bits) - 1n,
    1n << bits,
    (1n << bits) + 512n,
  ]),
  (1n << 64n) - 1n,
  (1n << 64n) - 512n,
]

interface Patch {
  readonly at: number
  readonly bytes: Buffer
}

/** A seed's file, with the places in it that are worth a change. */
export class MutableFile {
  readonly seed: Seed
  readonly bytes: Buffer
  #hot: readonly number[] | undefined

  constructor(seed: Seed, bytes: Buffer) {
    this.seed = seed
    this.bytes = bytes
  }

  /** The file after all mutations, without a copy of it: as patches over it. */
  mutate(mutations: readonly Mutation[], donors: readonly MutableFile[]): Mutant {
    const patches: Patch[] = []
    let sizeBytes = this.bytes.length
    for (const mutation of mutations) {
      const at = this.#place(mutation)
      if (mutation.kind === 'cut') sizeBytes = mutation.where % (this.bytes.length + 1)
      else if (mutation.kind === 'grow') sizeBytes += (mutation.value % 9) * 512 + (mutation.other % 3)
      else patches.push({ at, bytes: this.#change(at, mutation, donors) })
    }
    return new Mutant(this, sizeBytes, patches)
  }

  #place({ isAnywhere, where }: Mutation): number {
    const hot = isAnywhere ? undefined : this.#hotPlace(where)
    return hot === undefined ? where % this.bytes.length : hot + (where % 13 === 0 ? where % 4 : 0)
  }

  #hotPlace(choice: number): number | undefined {
    this.#hot ??= hotPlaces(this.bytes)
    return this.#hot[choice % this.#hot.length]
  }

  #change(at: number, mutation: Mutation, donors: readonly MutableFile[]): Buffer {
    const before = this.bytes[at] ?? 0
    switch (mutation.kind) {
      case 'byte':
        return Buffer.from([mutation.value])
      case 'bit':
        return Buffer.from([before ^ (1 << (mutation.value & 7))])
      case 'number':
        return numberBytes(mutation)
      case 'copy': {
        // Two entries of a table that are the same, and tables in each other's place.
        const hot = mutation.isAnywhere ? undefined : this.#hotPlace(mutation.other)
        const from = hot ?? mutation.other % this.bytes.length
        return this.bytes.subarray(from, from + 4 * (1 + (mutation.value % 16)))
      }
      case 'splice': {
        const donor = donors[mutation.other % donors.length]
        return donor?.bytes.subarray(0, Math.min(512, donor.bytes.length)) ?? Buffer.alloc(0)
      }
      case 'cut':
      case 'grow':
        return Buffer.alloc(0)
      default:
        return mutation.kind satisfies never
    }
  }
}

function hotPlaces(bytes: Buffer): readonly number[] {
  const hot: number[] = []
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    // A run of the same is a guest's data, of which the first is as good as any.
    const number = bytes.readUInt32LE(at)
    if (number !== 0 && (at < 4 || number !== bytes.readUInt32LE(at - 4))) hot.push(at)
  }
  return hot
}

function numberBytes({ other, value }: Mutation): Buffer {
  const edge = EDGES[value % EDGES.length] ?? 0n
  const number = BigInt.asUintN(64, (value & 0x100) === 0 ? edge : BigInt(value) * 512n)
  const bytes = Buffer.alloc(8)
  if ((other & 1) === 0) bytes.writeBigUInt64BE(number)
  else bytes.writeBigUInt64LE(number)
  const lengthBytes = [8, 4, 2][(other >> 1) % 3] ?? 8
  return (other & 1) === 0 ? bytes.subarray(8 - lengthBytes) : bytes.subarray(0, lengthBytes)
}

export class Mutant {
  readonly seed: Seed
  readonly #file: MutableFile
  readonly #sizeBytes: number
  readonly #patches: readonly Patch[]

  constructor(file: MutableFile, sizeBytes: number, patches: readonly Patch[]) {
    this.seed = file.seed
    this.#file = file
    this.#sizeBytes = sizeBytes
    this.#patches = patches
  }

  /** `onRead` before each read: what is in memory then is what the reader holds. */
  source(onRead: () => void): ByteSource {
    return {
      sizeBytes: this.#sizeBytes,
      read: (offset, lengthBytes, signal) => {
        signal?.throwIfAborted()
        onRead()
        return Promise.resolve(this.#read(offset, lengthBytes))
      },
    }
  }

  bytes(): Buffer {
    return this.#read(0, this.#sizeBytes)
  }

  /** What of it fits into `target`. */
  copyTo(target: Buffer): void {
    this.#read(0, Math.min(this.#sizeBytes, target.length)).copy(target)
  }

  #read(offset: number, lengthBytes: number): Buffer {
    const end = offset + lengthBytes
    if (!(offset >= 0 && lengthBytes >= 0 && end <= this.#sizeBytes)) {
      throw new Error(`A read outside the file: ${offset} + ${lengthBytes} of ${this.#sizeBytes}.`)
    }
    const bytes = Buffer.alloc(lengthBytes)
    this.#file.bytes.subarray(offset, end).copy(bytes)
    for (const patch of this.#patches) {
      const from = Math.max(offset, patch.at)
      const to = Math.min(end, patch.at + patch.bytes.length)
      if (from < to) patch.bytes.copy(bytes, from - offset, from - patch.at, to - patch.at)
    }
    return bytes
  }
}
