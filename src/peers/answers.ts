import type { IncomingMessage } from 'node:http'
import { Fault } from '../image/fault.ts'
import type { Digest, ImageId } from '../image/ids.ts'
import { type ObjectName, parseObjectName } from '../objects/names.ts'
import { ID_BYTES } from '../store/hashes.ts'
import type { PeerEndpointParts, PeerReader } from './contract.ts'
import { openContent, readImageWords, regionsOf } from './rights.ts'
import { encodeTable } from './table.ts'
import { LOCATE_IDS_MAX, OBJECT_BYTES_MAX, PATH, type ToldFault } from './words.ts'

/** What a peer asks for, after everything in it was checked. */
export type Wish =
  | { readonly is: 'regions' }
  | { readonly is: 'image'; readonly regionId: string; readonly id: ImageId }
  | { readonly is: 'content' | 'secrets'; readonly regionId: string; readonly digest: Digest }
  | { readonly is: 'locate'; readonly regionId: string; readonly digest: Digest; readonly ids: Buffer }
  | {
      readonly is: 'size'
      readonly regionId: string
      readonly digest: Digest
      readonly name: ObjectName
    }
  | {
      readonly is: 'object'
      readonly regionId: string
      readonly digest: Digest
      readonly name: ObjectName
      readonly offset: number
      readonly lengthBytes: number
    }

export type Answer =
  | { readonly fault: ToldFault }
  | { readonly sizeBytes: number }
  | { readonly body: Buffer; readonly range?: string }

const REGION = '([a-z][a-z0-9-]{0,31})'
const DIGEST = '([0-9a-f]{64})'
const IMAGE_PATH = new RegExp(`^/regions/${REGION}/images/([0-9a-z]{17})$`)
const CONTENT_PATH = new RegExp(`^/regions/${REGION}/contents/${DIGEST}/(image|secrets|locate)$`)
const OBJECT_PATH = new RegExp(
  `^/regions/${REGION}/contents/${DIGEST}/objects/((?:packs|pages)/[0-9a-f]{2}/[0-9a-f]{64}|signatures/[0-9a-f]{64})$`,
)
/** Bytes of an object in decimal digits that a number holds exactly. */
const RANGE = /^bytes=(0|[1-9]\d{0,14})-(0|[1-9]\d{0,14})$/

/** Paths are compared as they came: what is written in any other way is no path of ours. Fault 'invalid'. */
export async function readWish(request: IncomingMessage): Promise<Wish> {
  const { method = '', url = '' } = request
  if (!url.startsWith(`${PATH}/`)) throw noWish()
  const path = url.slice(PATH.length)
  if (method !== 'POST') refuseBody(request)
  if (method === 'GET' && path === '/regions') return { is: 'regions' }
  const image = IMAGE_PATH.exec(path)
  if (method === 'GET' && image !== null) {
    return { is: 'image', regionId: image[1] as string, id: image[2] as ImageId }
  }
  const content = CONTENT_PATH.exec(path)
  if (content !== null) {
    const where = { regionId: content[1] as string, digest: content[2] as Digest }
    if (method === 'GET' && content[3] === 'image') return { is: 'content', ...where }
    if (method === 'GET' && content[3] === 'secrets') return { is: 'secrets', ...where }
    if (method === 'POST' && content[3] === 'locate') {
      return { is: 'locate', ...where, ids: await readIds(request) }
    }
  }
  const object = OBJECT_PATH.exec(path)
  if (object === null) throw noWish()
  const where = { regionId: object[1] as string, digest: object[2] as Digest }
  const name = parseObjectName(object[3] as string)
  if (method === 'HEAD') return { is: 'size', ...where, name }
  if (method !== 'GET') throw noWish()
  return { is: 'object', ...where, name, ...readRange(request.headers.range) }
}

function readRange(text: string | undefined) {
  const [, first, last] = RANGE.exec(text ?? '') ?? []
  const offset = Number(first)
  const lengthBytes = Number(last) - offset + 1
  // NaN, of a range that is none, is no length either.
  if (!(lengthBytes >= 1 && lengthBytes <= OBJECT_BYTES_MAX)) throw noWish()
  return { offset, lengthBytes }
}

function refuseBody({ headers }: IncomingMessage): void {
  if (headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0') throw noWish()
}

async function readIds(request: IncomingMessage): Promise<Buffer> {
  const length = request.headers['content-length'] ?? ''
  const lengthBytes = /^\d{1,9}$/.test(length) ? Number(length) : -1
  const isRight = lengthBytes >= 0 && lengthBytes <= LOCATE_IDS_MAX * ID_BYTES && lengthBytes % ID_BYTES === 0
  if (!isRight) throw noWish()
  const parts: Buffer[] = await request.toArray()
  return Buffer.concat(parts)
}

function noWish(): Fault {
  return new Fault('invalid', 'The request is none that peers make.', { subject: 'peer' })
}

/** `holdBytes` waits until so much of an object may be in memory for the peer. Faults as of what is asked. */
export async function answerTo(
  parts: PeerEndpointParts,
  reader: PeerReader,
  wish: Wish,
  options: { readonly signal: AbortSignal; readonly holdBytes: (lengthBytes: number) => Promise<void> },
): Promise<Answer> {
  const { signal } = options
  if (wish.is === 'regions') return json({ regions: regionsOf(parts, reader) })
  if (wish.is === 'image') return json(await readImageWords(parts, reader, wish.regionId, wish.id))
  const content = await openContent(parts, reader, wish.regionId, wish.digest)
  switch (wish.is) {
    case 'content':
      return { body: await content.image(signal) }
    case 'secrets': {
      const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
      const secrets = [...(await content.secrets(signal))].map(([domain, { idKey, dataKey }]) => ({
        ...{ domain, idKey: hex(idKey), dataKey: hex(dataKey) },
      }))
      return json({ secrets })
    }
    case 'locate':
      return { body: encodeTable(await content.locate(wish.ids)) }
    case 'size':
      return { sizeBytes: await content.sizeOf(wish.name, signal) }
    case 'object': {
      const { name, offset, lengthBytes } = wish
      await options.holdBytes(lengthBytes)
      const body = await content.read(name, offset, lengthBytes, signal)
      return { body, range: `bytes ${offset}-${offset + lengthBytes - 1}/*` }
    }
    default:
      return wish satisfies never
  }
}

const json = (value: unknown): Answer => ({ body: Buffer.from(JSON.stringify(value)) })
