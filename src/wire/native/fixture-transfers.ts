import { createHash, randomBytes } from 'node:crypto'
import type { App, Caller } from '../../app/contract.ts'
import type { ExportFile, Transfers, Upload } from '../../app/transfer-contract.ts'
import { Fault } from '../../image/fault.ts'
import { type ImageId, newId, type TaskId } from '../../image/ids.ts'
import type { Image } from '../../image/image.ts'
import type { Task, TaskKind } from '../../image/task.ts'
import { fakeImage, NOW_MS, PROJECT } from './fixture-nouns.ts'

const DAY_MS = 24 * 60 * 60 * 1000
const PIECE_BYTES = 64 * 1024
const RANGE_DIGEST_BYTES_MAX = 32 * 1024 ** 2

export interface HeldUpload {
  upload: Upload
  bytes: Buffer[]
  isBusy: boolean
}

/** What the fake keeps of uploads and hands out as exports; a test may change any of it. */
export interface TransfersHeld {
  /** By token. */
  readonly uploads: Map<string, HeldUpload>
  /** By token. */
  readonly exports: Map<string, { readonly fileName: string; readonly isSized: boolean }>
  /** What every exported file holds. */
  exported: Buffer
  /** True: the whole file's SHA-256 is known, as after an export with digest. */
  isDigestKnown: boolean
  /** Answers once for every piece of an export that is about to go out; a test may hold it up, or throw. */
  beforePiece: (offset: number) => Promise<void>
  /** Bodies of exports that were begun, and those that were let go of, whether to their end or not. */
  bodiesBegun: number
  bodiesEnded: number
  inventory: string
}

export interface TransferParts {
  called(name: string, caller: Caller | undefined, input: unknown): Promise<void>
  begin(kind: TaskKind, parts?: Partial<Task>): TaskId
  readonly images: Map<ImageId, Image>
}

const absent = (subject: 'upload' | 'file' | 'image') =>
  new Fault('absent', `There is no such ${subject}. It may have expired.`, { subject })

/** Uploads and exports of an App in memory. */
export function createFakeTransfers({ called, begin, images }: TransferParts) {
  const held: TransfersHeld = {
    uploads: new Map(),
    exports: new Map(),
    exported: Buffer.from('the bytes of a disk, as a file'),
    isDigestKnown: false,
    beforePiece: async () => undefined,
    bodiesBegun: 0,
    bodiesEnded: 0,
    inventory: '{"version":1}',
  }
  const byToken = (token: string): HeldUpload => {
    const found = held.uploads.get(token)
    if (found === undefined) throw absent('upload')
    return found
  }
  const byId = (id: string): [string, HeldUpload] => {
    const found = [...held.uploads].find(([, one]) => one.upload.id === id)
    if (found === undefined) throw absent('upload')
    return found
  }

  /** All of it is here: the image is being made. */
  function finish(one: HeldUpload): void {
    const imageId = newId('image')
    const taskId = begin('import-image', { imageId })
    const { name, regionId } = one.upload
    images.set(
      imageId,
      fakeImage({ id: imageId, regionId, name, origin: 'import', state: { at: 'creating', taskId } }),
    )
    one.upload = { ...one.upload, state: { at: 'received', imageId, taskId } }
  }

  const uploads: Transfers['uploads'] = {
    async create(caller, wish) {
      await called('uploads.create', caller, wish)
      const token = randomBytes(32).toString('base64url')
      const upload: Upload = {
        id: newId('image'),
        projectId: wish.projectId ?? PROJECT,
        regionId: wish.regionId,
        name: wish.name,
        lengthBytes: wish.lengthBytes,
        offsetBytes: 0,
        state: { at: 'receiving' },
        createdAtMs: NOW_MS,
        expiresAtMs: NOW_MS + DAY_MS,
      }
      held.uploads.set(token, { upload, bytes: [], isBusy: false })
      return { upload, token }
    },
    async list(caller, where) {
      await called('uploads.list', caller, where)
      return [...held.uploads.values()].map((one) => one.upload)
    },
    async get(caller, where) {
      await called('uploads.get', caller, where)
      return byId(where.uploadId)[1].upload
    },
    async remove(caller, where) {
      await called('uploads.remove', caller, where)
      held.uploads.delete(byId(where.uploadId)[0])
    },
    async find(token) {
      await called('uploads.find', undefined, { token })
      return byToken(token).upload
    },
    async receive(token, part, signal) {
      const { body, ...rest } = part
      await called('uploads.receive', undefined, { token, ...rest })
      const one = byToken(token)
      if (one.isBusy)
        throw new Fault('conflict', 'Another request sends right now. Wait for it.', {
          ...{ subject: 'upload', reason: 'busy' },
        })
      const { offsetBytes, lengthBytes = part.lengthBytes } = one.upload
      if (part.offsetBytes !== offsetBytes)
        throw new Fault('conflict', `${offsetBytes} bytes are here. Go on there.`, {
          ...{ subject: 'upload', reason: 'offset' },
        })
      if (part.lengthBytes !== undefined && part.lengthBytes !== lengthBytes)
        throw new Fault('invalid', 'The length was told before.', { subject: 'upload', reason: 'length' })
      one.isBusy = true
      const came: Buffer[] = []
      const keep = () => {
        one.bytes.push(...came)
        const count = came.reduce((sum, { length }) => sum + length, 0)
        one.upload = { ...one.upload, lengthBytes, offsetBytes: offsetBytes + count }
      }
      try {
        let count = offsetBytes
        for await (const bytes of body) {
          signal.throwIfAborted()
          count += bytes.length
          if (lengthBytes !== undefined && count > lengthBytes)
            throw new Fault('invalid', 'It is longer than was said.', { subject: 'upload', reason: 'length' })
          came.push(Buffer.from(bytes))
        }
        const { checksum } = part
        if (checksum !== undefined) {
          const found = createHash(checksum.algorithm).update(Buffer.concat(came)).digest()
          if (!found.equals(checksum.bytes))
            throw new Fault('invalid', 'The checksum is another.', { subject: 'upload', reason: 'checksum' })
        }
        keep()
      } catch (error) {
        if (part.checksum === undefined) keep()
        throw error
      } finally {
        one.isBusy = false
      }
      if (one.upload.offsetBytes === one.upload.lengthBytes) finish(one)
      return one.upload
    },
    async abandon(token) {
      await called('uploads.abandon', undefined, { token })
      byToken(token)
      held.uploads.delete(token)
    },
  }

  async function* pieces(from: number, lengthBytes: number): AsyncGenerator<Uint8Array> {
    held.bodiesBegun++
    try {
      for (let at = from; at < from + lengthBytes; at += PIECE_BYTES) {
        await held.beforePiece(at)
        yield held.exported.subarray(at, Math.min(at + PIECE_BYTES, from + lengthBytes))
      }
    } finally {
      held.bodiesEnded++
    }
  }

  const exports: Transfers['exports'] = {
    async create(caller, wish) {
      await called('exports.create', caller, wish)
      const image = images.get(wish.imageId)
      if (image === undefined) throw absent('image')
      const { what } = wish
      const isSized = what.is === 'disk' && what.compress === undefined
      const suffix = what.is === 'disk' ? `${what.format}${isSized ? '' : '.zst'}` : 'calobundle'
      const fileName = `${image.name}.${suffix}`
      const token = randomBytes(32).toString('base64url')
      held.exports.set(token, { fileName, isSized })
      const sha256 = createHash('sha256').update(held.exported).digest('hex')
      const output = { sizeBytes: held.exported.length, sha256 }
      return {
        token,
        fileName,
        sizeBytes: isSized ? held.exported.length : undefined,
        expiresAtMs: NOW_MS + DAY_MS,
        signer: wish.what.is === 'bundle' ? 'ab'.repeat(32) : undefined,
        taskId: wish.withDigest ? begin('export-image', { imageId: wish.imageId, output }) : undefined,
      }
    },
    async open(token, asked): Promise<ExportFile> {
      await called('exports.open', undefined, { token, ...asked })
      const file = held.exports.get(token)
      if (file === undefined) throw absent('file')
      const { exported } = held
      const sizeBytes = file.isSized ? exported.length : undefined
      const { range } = asked
      let [first, end] = [0, exported.length]
      if (range !== undefined && sizeBytes !== undefined) {
        if ('suffixBytes' in range)
          first = range.suffixBytes === 0 ? end : Math.max(0, end - range.suffixBytes)
        else [first, end] = [range.first, Math.min(end, (range.last ?? end) + 1)]
        if (first >= exported.length)
          throw new Fault('invalid', 'The range begins behind the end of the file.', { reason: 'range' })
      }
      const lengthBytes = end - first
      const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest()
      const wantsDigest = asked.wantsRangeDigest && lengthBytes <= RANGE_DIGEST_BYTES_MAX
      return {
        fileName: file.fileName,
        sizeBytes,
        etag: hash(exported).toString('hex').slice(0, 16),
        sha256: held.isDigestKnown ? hash(exported) : undefined,
        range: sizeBytes === undefined ? undefined : { offset: first, lengthBytes },
        rangeSha256: wantsDigest ? hash(exported.subarray(first, end)) : undefined,
        body: pieces(first, asked.headOnly ? 0 : lengthBytes),
      }
    },
    async inventory(caller, where) {
      await called('exports.inventory', caller, where)
      return held.inventory
    },
  }
  const app: Pick<App, 'uploads' | 'exports'> = { uploads, exports }
  return { app, held }
}
