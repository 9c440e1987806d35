import assert from 'node:assert/strict'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { waitForTask } from '../../demo/steps.ts'
import type { DeclaredFormat } from '../../src/disk/formats/contract.ts'
import { HOME } from '../e2e/failure-steps.ts'
import type { Place } from '../e2e/harness.ts'
import type { HostilePlace } from './hostile-place.ts'
import { type Begun, beginImport, deleteImage, getImage } from './transfer-place.ts'

/** A file on its way in. */
export interface Brought {
  readonly name: string
  readonly bytes: Buffer
  readonly declared?: DeclaredFormat | undefined
}

/** The ways in. Each answers why the file was refused, and fails if it was not. */
export type Way = (place: HostilePlace, file: Brought) => Promise<string>

const PART_BYTES = 1024 ** 2
const AT_ONCE = 4
let count = 0
const wishOf = ({ declared }: Brought) => (declared === undefined ? {} : { format: declared })

export const byFolder: Way = async (place, file) => {
  const fileName = `file-${count++}`
  await writeFile(join(place.imports, fileName), file.bytes)
  try {
    return await whyRefused(place, file, await beginImport(place, { fileName }, file.name, wishOf(file)))
  } finally {
    await rm(join(place.imports, fileName))
  }
}

export const byAddress: Way = async (place, file) => {
  const name = `file-${count++}`
  place.served.set(name, file.bytes)
  try {
    const url = `${place.origin}/${name}`
    return await whyRefused(place, file, await beginImport(place, { url }, file.name, wishOf(file)))
  } finally {
    place.served.delete(name)
  }
}

export const byUpload: Way = async (place, file) => {
  const url = await createUpload(place, file.name, file.bytes.length, wishOf(file))
  // What is longer comes in two parts, so that its head is looked at before the rest is there.
  const cut = Math.min(file.bytes.length, PART_BYTES)
  let offset = 0
  for (const part of [file.bytes.subarray(0, cut), file.bytes.subarray(cut)]) {
    if (part.length === 0) continue
    const sent = await sendPart(url, offset, part)
    offset += part.length
    if (sent.is === 'refused') {
      const { state, reason } = await findUpload(place, file.name)
      assert.deepEqual([state, reason], ['refused', sent.reason], file.name)
      return sent.reason
    }
    if (sent.is === 'begun') return whyRefused(place, file, sent)
  }
  return assert.fail(`${file.name}: the last part begins the import`)
}

/** Several at a time, in order. */
export async function forEach<T>(
  items: readonly T[],
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  const rest = items.entries()
  const one = async () => {
    for (const [index, item] of rest) await work(item, index)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, one))
}

/** Room for a file; answers where to send it. */
export async function createUpload(
  place: Place,
  name: string,
  lengthBytes: number | undefined,
  wish: object = {},
): Promise<string> {
  const body = { region: HOME, name, ...wish, ...(lengthBytes === undefined ? {} : { lengthBytes }) }
  const made = await place.server.native.call<{ location: string }>('POST', '/v1/uploads', { body })
  return new URL(made.location, place.server.endpoint).href
}

export type SentPart =
  | ({ readonly is: 'begun' } & Begun)
  | { readonly is: 'kept' }
  | { readonly is: 'refused'; readonly reason: string; readonly status: number; readonly kind: string }

/** One part of an upload, in tus' own words. */
export async function sendPart(
  url: string,
  offsetBytes: number,
  body: Buffer | ReadableStream<Uint8Array>,
): Promise<SentPart> {
  const answer = await fetch(url, {
    method: 'PATCH',
    headers: {
      ...{ 'tus-resumable': '1.0.0', 'upload-offset': String(offsetBytes) },
      'content-type': 'application/offset+octet-stream',
    },
    body: Buffer.isBuffer(body) ? new Uint8Array(body) : body,
    duplex: 'half',
  } as RequestInit)
  const text = await answer.text()
  if (answer.status === 204) {
    const imageId = answer.headers.get('calotype-image-id')
    const taskId = answer.headers.get('calotype-task-id')
    return imageId === null || taskId === null ? { is: 'kept' } : { is: 'begun', imageId, taskId }
  }
  const { error } = JSON.parse(text) as {
    readonly error: { readonly kind: string; readonly message: string }
  }
  return { is: 'refused', reason: error.message, status: answer.status, kind: error.kind }
}

interface FoundUpload {
  readonly uploadId: string
  readonly name: string
  readonly state: string
  readonly reason: string | null
}

export async function findUpload(place: Place, name: string): Promise<FoundUpload> {
  const query = { region: HOME }
  type Uploads = { readonly uploads: readonly FoundUpload[] }
  const { uploads } = await place.server.native.call<Uploads>('GET', '/v1/uploads', { query })
  const found = uploads.find((upload) => upload.name === name)
  assert(found !== undefined, `there is an upload ${name}`)
  return found
}

/** Why an import failed, which its image and its task say alike. The image is gone afterwards. */
export async function whyRefused(
  place: Place,
  { name }: Pick<Brought, 'name'>,
  begun: Begun,
): Promise<string> {
  const task = await waitForTask(place.server, begun.taskId)
  const image = await getImage(place, begun.imageId)
  assert.deepEqual(
    [task.state, task.faultKind],
    ['failed', 'invalid'],
    `${name}: ${task.state} ${task.reason}`,
  )
  assert.deepEqual([image.state, image.reason, image.digest], ['failed', task.reason, null], name)
  await deleteImage(place, begun.imageId)
  return task.reason ?? ''
}
