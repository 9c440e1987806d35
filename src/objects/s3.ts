import { randomUUID } from 'node:crypto'
import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { Fault, isFault } from '../image/fault.ts'
import type { ObjectStore } from './contract.ts'
import { type ObjectName, parseObjectName } from './names.ts'
import { hasStatus, type S3Where, translate } from './s3-fault.ts'
import { abandonUploads, putParts } from './s3-parts.ts'

export interface S3Options {
  readonly endpoint: string
  readonly region: string
  readonly bucket: string
  /** Comes before every name, with a '/' between; '' for the whole bucket. */
  readonly prefix: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** True: `ENDPOINT/BUCKET/KEY`; false: the bucket is part of the host's name. */
  readonly isPathStyle: boolean
  /** Connections of this instance. */
  readonly callsMax?: number
  /**
   * Removes the parts of uploads that a crash left unfinished, and so also finds out whether bucket and key are good.
   * Only for the first opener, before any other thread or process writes.
   */
  readonly clean: boolean
  /** How long a connection may take to come about, and how long it may then be still. */
  readonly connectMs?: number
  readonly idleMs?: number
  /** Larger objects go up in parts of `partBytes`. */
  readonly partsAboveBytes?: number
  readonly partBytes?: number
}

const CALLS_MAX_DEFAULT = 16
const CONNECT_MS_DEFAULT = 5_000
const IDLE_MS_DEFAULT = 30_000
/** A pack is a little more than 32 MiB: nothing that the store writes today goes up in parts. */
const PARTS_ABOVE_BYTES_DEFAULT = 64 * 1024 * 1024
const PART_BYTES_DEFAULT = 16 * 1024 * 1024
const WRITER = 'calotype-writer'

/**
 * Objects in a bucket. The signature covers the SHA-256 of the bytes, which every service checks before it stores them
 * (the newer `x-amz-checksum-…` headers are silently ignored by Ceph 16). Nothing is tried twice here.
 * Faults as `ObjectStore`, and 'denied' or 'invalid' (subject 'store') for keys and settings that are not good.
 */
export async function openS3Objects(options: S3Options): Promise<ObjectStore> {
  const client = createClient(options)
  if (options.clean) {
    try {
      await abandonUploads(client, options.bucket, keyOf(options.prefix, ''))
    } catch (error) {
      throw translate(error, 'The store', options)
    }
  }
  return new S3Objects(client, options)
}

function createClient(options: S3Options): S3Client {
  const { callsMax = CALLS_MAX_DEFAULT, connectMs = CONNECT_MS_DEFAULT, idleMs = IDLE_MS_DEFAULT } = options
  const agent = { keepAlive: true, maxSockets: callsMax, timeout: idleMs }
  return new S3Client({
    endpoint: options.endpoint,
    region: options.region,
    forcePathStyle: options.isPathStyle,
    credentials: { accessKeyId: options.accessKeyId, secretAccessKey: options.secretAccessKey },
    // Only our own wrapper tries again.
    maxAttempts: 1,
    // The signed SHA-256 is the checksum; ranges of an object have none of their own.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    useFipsEndpoint: false,
    useDualstackEndpoint: false,
    requestHandler: {
      connectionTimeout: connectMs,
      // Of silence, not of the whole request: a pack may take long on a slow line.
      socketTimeout: idleMs,
      httpAgent: new HttpAgent(agent),
      httpsAgent: new HttpsAgent(agent),
    },
  })
}

const keyOf = (prefix: string, name: string) => (prefix === '' ? name : `${prefix}/${name}`)

class S3Objects implements ObjectStore {
  readonly traits: ObjectStore['traits']
  readonly #client: S3Client
  readonly #prefix: string
  readonly #where: S3Where
  readonly #partsAboveBytes: number
  readonly #partBytes: number
  /**
   * What marks our own object, by name, for each put that failed and may still have stored it. The next put of that
   * name uses the same mark and so finds out whose the object is that it meets.
   */
  readonly #unsure = new Map<ObjectName, string>()

  constructor(client: S3Client, options: S3Options) {
    this.#client = client
    this.#prefix = options.prefix
    this.#where = { endpoint: options.endpoint, bucket: options.bucket }
    this.#partsAboveBytes = options.partsAboveBytes ?? PARTS_ABOVE_BYTES_DEFAULT
    this.#partBytes = options.partBytes ?? PART_BYTES_DEFAULT
    this.traits = { callsMax: options.callsMax ?? CALLS_MAX_DEFAULT, listLagMs: 0 }
  }

  put(name: ObjectName, bytes: Uint8Array, signal?: AbortSignal): Promise<'stored' | 'present'> {
    return this.#call(`Object ${name}`, signal, async (call) => {
      const before = this.#unsure.get(name)
      const mark = before ?? randomUUID()
      // Of several puts at once one may claim what an earlier one left.
      this.#unsure.delete(name)
      try {
        const isStored = await this.#putNew(name, bytes, mark, signal)
        const isOurs = isStored || (before !== undefined && (await this.#markOf(name, call)) === mark)
        return isOurs ? 'stored' : 'present'
      } catch (error) {
        this.#unsure.set(name, mark)
        throw error
      }
    })
  }

  get(name: ObjectName, offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    return this.#call(`Object ${name}`, signal, async (call) => {
      // There is no range of no bytes.
      if (lengthBytes === 0) return this.#getNothing(name, offset, call)
      const Range = `bytes=${offset}-${offset + lengthBytes - 1}`
      const { Body, ContentLength, ContentRange } = await this.#client.send(
        new GetObjectCommand({ ...this.#target(name), Range }),
        call,
      )
      if (Body === undefined) throw cut(name)
      const stream = Body as AsyncIterable<Buffer> & { destroy(): void }
      if (ContentRange?.startsWith(`bytes ${offset}-`) !== true || (ContentLength ?? 0) > lengthBytes) {
        stream.destroy()
        throw new Fault(
          'invalid',
          `${this.#where.endpoint} does not answer ranges, so it cannot hold a store.`,
          {
            subject: 'store',
          },
        )
      }
      if (ContentLength !== undefined && ContentLength < lengthBytes) {
        stream.destroy()
        throw short(name)
      }
      const bytes = Buffer.allocUnsafeSlow(lengthBytes)
      let doneBytes = 0
      for await (const part of stream) {
        bytes.set(part, doneBytes)
        doneBytes += part.length
      }
      if (doneBytes < lengthBytes) throw cut(name)
      return bytes
    })
  }

  size(name: ObjectName, signal?: AbortSignal): Promise<number | undefined> {
    return this.#call(`Object ${name}`, signal, async (call) => (await this.#head(name, call))?.ContentLength)
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncIterable<ObjectName> {
    const start = keyOf(this.#prefix, '').length
    let token: string | undefined
    do {
      const page = await this.#call('The store', signal, (call) =>
        this.#client.send(
          new ListObjectsV2Command({
            Bucket: this.#where.bucket,
            Prefix: keyOf(this.#prefix, prefix),
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
          call,
        ),
      )
      for (const { Key } of page.Contents ?? []) {
        const name = Key === undefined ? undefined : findName(Key.slice(start))
        if (name !== undefined) yield name
      }
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined
    } while (token !== undefined)
  }

  remove(name: ObjectName, signal?: AbortSignal): Promise<void> {
    return this.#call(`Object ${name}`, signal, async (call) => {
      try {
        await this.#client.send(new DeleteObjectCommand(this.#target(name)), call)
      } catch (error) {
        if (!hasStatus(error, 404)) throw error
        const fault = translate(error, name, this.#where)
        if (!isFault(fault, 'absent')) throw fault
      }
    })
  }

  /** False if there is an object already. */
  async #putNew(
    name: ObjectName,
    bytes: Uint8Array,
    mark: string,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const Metadata = { [WRITER]: mark }
    if (bytes.length > this.#partsAboveBytes) {
      const { Bucket: bucket, Key: key } = this.#target(name)
      return putParts(this.#client, bytes, {
        ...{ bucket, key, metadata: Metadata },
        partBytes: this.#partBytes,
        signal,
      })
    }
    try {
      await this.#client.send(
        new PutObjectCommand({ ...this.#target(name), Body: bytes, IfNoneMatch: '*', Metadata }),
        callOf(signal),
      )
      return true
    } catch (error) {
      if (hasStatus(error, 412)) return false
      throw error
    }
  }

  async #markOf(name: ObjectName, call: CallOptions): Promise<string | undefined> {
    return (await this.#head(name, call))?.Metadata?.[WRITER]
  }

  async #getNothing(name: ObjectName, offset: number, call: CallOptions): Promise<Buffer> {
    const sizeBytes = (await this.#head(name, call))?.ContentLength
    if (sizeBytes === undefined) {
      throw new Fault('absent', `Object ${name} does not exist.`, { subject: 'store' })
    }
    if (sizeBytes < offset) throw short(name)
    return Buffer.alloc(0)
  }

  async #head(name: ObjectName, call: CallOptions) {
    try {
      return await this.#client.send(new HeadObjectCommand(this.#target(name)), call)
    } catch (error) {
      if (hasStatus(error, 404)) return undefined
      throw error
    }
  }

  #target(name: ObjectName) {
    return { Bucket: this.#where.bucket, Key: keyOf(this.#prefix, name) }
  }

  async #call<Result>(
    what: string,
    signal: AbortSignal | undefined,
    body: (call: CallOptions) => Promise<Result>,
  ): Promise<Result> {
    signal?.throwIfAborted()
    try {
      return await body(callOf(signal))
    } catch (error) {
      signal?.throwIfAborted()
      throw translate(error, what, this.#where)
    }
  }
}

interface CallOptions {
  readonly abortSignal?: AbortSignal
}

function callOf(signal: AbortSignal | undefined): CallOptions {
  return signal === undefined ? {} : { abortSignal: signal }
}

function short(name: ObjectName): Fault {
  return new Fault('corrupt', `Object ${name} is shorter than it should be.`, { subject: 'store' })
}

function cut(name: ObjectName): Fault {
  return new Fault('unavailable', `The answer for object ${name} was cut off.`, { subject: 'store' })
}

/** A bucket may hold what is not ours, such as the empty objects that some tools make for folders. */
function findName(key: string): ObjectName | undefined {
  try {
    return parseObjectName(key)
  } catch {
    return undefined
  }
}
