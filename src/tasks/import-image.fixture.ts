import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { InspectedDisk, Inspection } from '../disk/formats/contract.ts'
import type { RemoteFile } from '../intake/contract.ts'
import type { Intake } from './parts.ts'
import type { BlobMap, StoreJobs, WriteJob } from './store-jobs.ts'
import type { FakeStores } from './stores.fixture.ts'
import { holdFile } from './threads/file-source.ts'

export const MIB = 1024 ** 2

const mapOf = (sizeBytes: number): BlobMap => ({ sizeBytes, chunkBytes: 65_536, pages: [] })

/** Bringing files in as far as tasks see it: what is asked of others is remembered, what is told is set. Files of a folder are real. */
export class FakeImports {
  readonly #stores: FakeStores
  /** Offsets that the other side was asked for. */
  readonly opens: number[] = []
  /** Bytes of a blob at its last checkpoint. */
  takenBytes = 0
  readonly aborted: string[] = []
  /** What is sent, and how much is announced. */
  body: (offset: number, signal: AbortSignal) => AsyncIterable<Uint8Array> = () => this.bytes(MIB)
  sizeBytes: number | undefined
  onOpenBlob: () => void = () => {}
  fetchMs = 24 * 3_600_000
  freeBytes: number | undefined
  /** Of the file, then of what is unpacked of it. */
  inspections: readonly Inspection[] = [{ is: 'disk', disk: this.disk('raw') }]
  /** What the thread that holds the file reads without anybody's help. */
  plainFormats: readonly InspectedDisk['format'][] = ['raw']
  /** What QEMU was asked to read. */
  readonly foreign: InspectedDisk['format'][] = []
  unpackedBytes = MIB
  readonly sha256 = createHash('sha256').update('the file').digest('hex')
  #onOpen = () => {}

  constructor(stores: FakeStores) {
    this.#stores = stores
  }

  disk(format: InspectedDisk['format']): InspectedDisk {
    return { format, offset: 0, lengthBytes: MIB, virtualBytes: MIB, variant: 'plain' }
  }

  async *bytes(count: number): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < count; at += MIB) yield new Uint8Array(Math.min(MIB, count - at))
  }

  /** Nothing, until the signal. */
  async *silence(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    if (!signal.aborted) await once(signal, 'abort')
    yield* []
    throw signal.reason
  }

  /** Resolves once the other side was asked that often. */
  async opened(count: number): Promise<void> {
    while (this.opens.length < count) {
      await new Promise<void>((resolve) => {
        this.#onOpen = resolve
      })
    }
  }

  readonly #pass = async (name: string) => this.#stores.gates.get(name)?.()

  get intake(): Intake {
    const imports = this
    const readable = { socketPath: '', exportName: '', sizeBytes: MIB }
    return {
      reader: {
        facts: async () => [],
        prepare: async () => ({ socketPath: '' }),
        open: async (_key, disks) => {
          imports.foreign.push(...disks.map(({ format }) => format))
          return disks.map(() => readable)
        },
        close: async () => {},
        closeAll: async () => {},
      },
      rawFiles: { open: async () => readable, close: async () => {} },
      fetcher: {
        async open(_source, { offset }, signal): Promise<RemoteFile> {
          imports.opens.push(offset)
          imports.#onOpen()
          const { sizeBytes } = imports
          return { sizeBytes, etag: '"1"', offset, body: imports.body(offset, signal), close: () => {} }
        },
      },
      seal: { seal: () => 'sealed', open: () => ({ url: 'https://example.org/' }) },
      ...{ diskBytesMax: 2 ** 40, ratioMax: 1000, signers: [] },
      get fetchMs() {
        return imports.fetchMs
      },
    }
  }

  get jobs(): StoreJobs {
    const { jobs } = this.#stores
    const held = async (place: Parameters<StoreJobs['openFile']>[0]) =>
      place.is === 'file' ? holdFile(place, undefined) : undefined
    return {
      ...jobs,
      freeBytes: async () => this.freeBytes,
      abort: async (_regionId, sessionId) => void this.aborted.push(sessionId),
      openBlob: async ({ map }) => {
        this.onOpenBlob()
        let sizeBytes = map?.sizeBytes ?? 0
        return {
          async write(bytes) {
            sizeBytes += bytes.length
          },
          checkpoint: async () => {
            this.takenBytes = sizeBytes
            return mapOf(sizeBytes)
          },
          digest: async () => Buffer.alloc(0),
          close: async () => {},
        }
      },
      openFile: async (place) => {
        const file = await held(place)
        await this.#pass('openFile')
        const isUnpacked = place.is === 'blob' && place.sessionId.endsWith('-unpacked')
        const inspection = this.inspections[isUnpacked ? 1 : 0] ?? { is: 'bundle' }
        return {
          ...{ sizeBytes: MIB, descriptor: file?.descriptor, inspection },
          isPlain: inspection.is === 'disk' ? [this.plainFormats.includes(inspection.disk.format)] : [],
          serve: async () => {},
          close: async () => file?.close(),
        }
      },
      checksums: async (place) => {
        await (await held(place))?.close()
        await this.#pass('checksums')
        return { sha256: this.sha256 }
      },
      unpack: async (_place, _packing, _limits, _job, { allow }) => {
        await allow(this.unpackedBytes)
        await this.#pass('unpacked')
        return mapOf(this.unpackedBytes)
      },
      takeBlob: async ({ regionId, sessionId, domain, ref, config, os, parent }, signal) => {
        const images = [{ ref, config, os, parent, disks: [0] }]
        const job = { regionId, domain, sessionId, disks: [], consistency: 'crash', images } as WriteJob
        const [made] = await jobs.write(job, () => {}, signal)
        if (made === undefined) throw new Error('one image was asked for')
        return made
      },
    }
  }
}
